package check

import "time"

// script is how a case is run, or why it is not.
type script struct {
	run   func(*trial)
	skip  string            // why it is not for a single broker
	only5 bool              // it needs what MQTT 3.1.1 does not have
	kills bool              // it needs Options.Start
	disk  bool              // it needs Options.Data
	slow  bool              // a soak does not draw it
	needs func(*run) string // what else is missing, or ""
	limit time.Duration     // default 20 s; 30 times as much with Options.Full
}

const notSingle = "not for a single broker: needs a cluster of two nodes"

// soakID is the case that runs others.
const soakID = "O38"

// scripts by case id.
var scripts = map[string]script{
	"O01": {run: steady},
	"O02": {run: overlapping},
	"O03": {run: manyTopics},
	"O04": {run: mixedQoS},
	"O05": {run: interleaving},
	"O06": {run: slowReader},
	"O07": {run: overflow},
	"O08": {run: tooLarge, only5: true},
	"O09": {run: expiring, only5: true, slow: true, limit: 40 * time.Second},
	"O10": {run: cutWithUnacked, limit: 30 * time.Second},
	"O11": {run: cutWindowOne, only5: true},
	"O12": {run: backlog},
	"O13": {run: resumeUnderLoad},
	"O14": {run: sameSecond},
	"O15": {run: clockStep, kills: true, slow: true, limit: 60 * time.Second,
		needs: func(r *run) string { return clockCannotStep(r.o.Start) }},
	"O16": {run: acksOutOfOrder},
	"O17": {run: neverAcked, slow: true},
	"O18": {run: wrappingIDs, slow: true, limit: 40 * time.Second},
	"O19": {run: windowReopens},
	"O20": {run: exactlyOnceSteps, limit: 40 * time.Second},
	"O21": {run: publisherCut},
	"O22": {skip: notSingle},
	"O23": {run: takeover, limit: 30 * time.Second},
	"O24": {skip: notSingle},
	"O25": {run: killed, kills: true, limit: 60 * time.Second},
	"O26": {run: powerCut, kills: true, slow: true, limit: 60 * time.Second, needs: (*run).syncCannotBeSeen},
	"O27": {run: diskFull, kills: true, disk: true, slow: true, limit: 60 * time.Second},
	"O28": {run: damaged, kills: true, disk: true, slow: true, limit: 90 * time.Second},
	"O29": {run: sharedSteady},
	"O30": {run: sharedChanges},
	"O31": {run: sharedRefused, only5: true},
	"O32": {run: retainedUpdates},
	"O33": {run: lastWords},
	"O34": {run: bridged, needs: func(r *run) string {
		if r.bridge == nil {
			return "needs --bridge with the URL of the broker at the other end"
		}
		return ""
	}},
	"O35": {run: requestResponse},
	"O36": {skip: "not for a single broker: is about commands; the tests of internal/engine and internal/sim run it"},
	"O37": {skip: "not for a single broker: is about client libraries; the tests of mqtt/client and internal/interop run it"},
	soakID: {needs: func(r *run) string {
		if r.o.For <= 0 {
			return "needs --for with a duration"
		}
		return ""
	}},
}
