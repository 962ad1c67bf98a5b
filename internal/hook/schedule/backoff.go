package schedule

import "time"

// How long a delivery is tried.
const (
	FirstPause = 5 * time.Second // doubles with each attempt
	MostPause  = time.Hour
	GiveUp     = 24 * time.Hour // after what is to be told
	LeastTries = 5              // also of one that was held back by others for longer than GiveUp
)

// After decides about a delivery whose attempt-th try has failed (1 is the first):
// when it is tried again, or that it is given up. Since is when it began, asked how
// long the receiver wants to be left alone (0: it did not say), r is from 0 up to 1
// and spreads the tries of many over the second half of the pause.
func After(since, now time.Time, attempt int, asked time.Duration, r float64) (at time.Time, again bool) {
	if attempt >= LeastTries && now.Sub(since) >= GiveUp {
		return time.Time{}, false
	}
	pause := MostPause
	if n := attempt - 1; n < 10 {
		pause = min(FirstPause<<max(n, 0), MostPause)
	}
	pause = pause/2 + time.Duration(r*float64(pause/2))
	return now.Add(max(pause, min(asked, MostPause))), true
}
