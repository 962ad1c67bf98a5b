package mqtt

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Shows [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-3.3.2-3].
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of 4.7.1.2, 4.7.1.3 and 4.7.2.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true}, {"#", "sport", true}, {"sport/tennis/#", "sport/tenni", false},
		{"sport/tennis/+", "sport/tennis/player1", true}, {"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false}, {"sport/+", "sport/", true},
		{"+/+", "/finance", true}, {"/+", "/finance", true}, {"+", "/finance", false},
		{"#", "$SYS/x", false}, {"+/monitor/Clients", "$SYS/monitor/Clients", false}, {"+", "$SYS", false},
		{"$SYS/#", "$SYS/x", true}, {"$SYS/monitor/+", "$SYS/monitor/Clients", true}, {"$SYS/#", "$SYS", true},
		{"+/+/#", "$SYS/a/b", false}, {"a/#", "a/$SYS", true}, {"a/+", "a/$b", true},
		// The rest.
		{"a", "a", true}, {"a", "A", false}, {"a", "a/", false}, {"a/", "a", false}, {"/", "/", true}, {"+/+", "/", true},
		{"+", "/", false}, {"#", "/", true}, {"/#", "/", true}, {"/#", "a", false}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
		{"a/+/#", "a", false}, {"a/+/#", "a/b", true}, {"a/+/#", "a/b/c/d", true}, {"+/#", "a", true}, {"+/b", "a/b", true},
		{"a/b/#", "a/bc", false}, {"a/b/#", "a", false}, {"+/+/c", "a/b/c", true}, {"+/+/c", "a/b", false}, {"ab", "a", false},
		{"e\u0301", "\u00e9", false}, // no normalisation
		{"", "", false}, {"#", "", false}, {"", "a", false},
	} {
		if got := Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}

// matchOracle says what Match says, level by level as section 4.7 words it.
func matchOracle(filter, topic string) bool {
	filters, topics := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (filters[0] == "#" || filters[0] == "+") {
		return false
	}
	for i, f := range filters {
		if f == "#" {
			return len(topics) >= i
		}
		if i >= len(topics) || f != "+" && f != topics[i] {
			return false
		}
	}
	return len(filters) == len(topics)
}

// validTopicOracle and validFilterOracle return the code of the refusal, 0 for
// none.
func validTopicOracle(s string) ReasonCode {
	switch {
	case len(s) > 65535 || s == "":
		return TopicNameInvalid
	case strings.ContainsAny(s, "+#") && utf8.ValidString(s) && !strings.Contains(s, "\x00"):
		return TopicNameInvalid
	case !utf8.ValidString(s) || strings.Contains(s, "\x00"):
		return MalformedPacket
	case len(strings.Split(s, "/")) > MaxLevels:
		return TopicNameInvalid
	}
	return 0
}

func validFilterOracle(s string) ReasonCode {
	if s == "" || len(s) > 65535 {
		return TopicFilterInvalid
	}
	if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return MalformedPacket
	}
	levels := strings.Split(s, "/")
	if levels[0] == "$share" && len(levels) > 1 {
		inner := levels[2:]
		if levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(inner) == 0 || len(inner) == 1 && inner[0] == "" ||
			inner[0] == "$share" && len(inner) > 1 {
			return TopicFilterInvalid
		}
		levels = inner
	}
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && level != "+" && (level != "#" || i != len(levels)-1) {
			return TopicFilterInvalid
		}
	}
	if len(levels) > MaxLevels {
		return TopicFilterInvalid
	}
	return 0
}

// checkTopics compares with the oracles. A string with two faults may be
// refused for either.
func checkTopics(t interface{ Errorf(string, ...any) }, filter, topic string) {
	code := func(err error) ReasonCode {
		if err == nil {
			return 0
		}
		return err.(*Error).Code
	}
	for _, s := range []string{filter, topic} {
		got, want := code(ValidTopic(s)), validTopicOracle(s)
		both := want != 0 && strings.ContainsAny(s, "+#")
		if got != want && (!both || got == 0) {
			t.Errorf("ValidTopic(%q): %v, want %v", s, got, want)
		}
		if got, want := code(ValidFilter(s)), validFilterOracle(s); got != want {
			t.Errorf("ValidFilter(%q): %v, want %v", s, got, want)
		}
	}
	if validFilterOracle(filter) != 0 || validTopicOracle(topic) != 0 {
		return
	}
	group, inner, shared := ParseShare(filter)
	if shared && filter != "$share/"+group+"/"+inner || !shared && inner != filter {
		t.Errorf("ParseShare(%q) = %q, %q, %v", filter, group, inner, shared)
	}
	if got, want := Match(inner, topic), matchOracle(inner, topic); got != want {
		t.Errorf("Match(%q, %q) = %v, want %v", inner, topic, got, want)
	}
}

// levels joins few and similar levels, so that many pairs match.
func levels(t *rapid.T, label string, of []string) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(of), 1, 6).Draw(t, label), "/")
}

func TestMatchAgainstOracle(t *testing.T) {
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		filter := levels(t, "filter", []string{"a", "b", "ab", "", "+", "+", "#", "$x", "ü"})
		topic := levels(t, "topic", []string{"a", "b", "ab", "", "$x", "ü"})
		checkTopics(t, filter, topic)
		if Match(filter, topic) {
			matched++
		}
	})
	if matched == 0 {
		t.Error("no pair ever matched: the generator is too wild")
	}
}

func TestTopicRulesAgainstOracle(t *testing.T) {
	bits := []string{"a", "/", "+", "#", "$share", "$share/", "\x00", "\xff", "ü", "€", "abcdefgh", "\ufeff", "//////////"}
	rapid.Check(t, func(t *rapid.T) {
		make := func(label string) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(bits), 0, 20).Draw(t, label), "")
		}
		checkTopics(t, make("filter"), make("topic"))
	})
}

// TestOverlap holds Overlap to what it means, over all filters and topics of a small
// world.
func TestOverlap(t *testing.T) {
	levels := func(words []string, deep int) (all []string) {
		for last := []string{""}; deep > 0; deep-- {
			var next []string
			for _, begin := range last {
				for _, w := range words {
					next = append(next, begin+w+"/")
				}
			}
			last = next
			for _, s := range last {
				all = append(all, s[:len(s)-1])
			}
		}
		return slices.DeleteFunc(all, func(s string) bool { return s == "" })
	}
	topics := levels([]string{"", "a", "b", "$c"}, 4)
	filters := slices.DeleteFunc(levels([]string{"", "a", "$c", "+", "#"}, 3), func(f string) bool { return ValidFilter(f) != nil })
	matched := map[string][]bool{}
	for _, f := range filters {
		for _, topic := range topics {
			matched[f] = append(matched[f], Match(f, topic))
		}
	}
	for _, a := range filters {
		for _, b := range filters {
			want := false
			for i := range topics {
				want = want || matched[a][i] && matched[b][i]
			}
			if got := Overlap(a, b); got != want {
				t.Errorf("%q and %q: %v", a, b, got)
			}
		}
	}
}

func TestTopicFunctionsDoNotAllocate(t *testing.T) {
	filter, topic := "$share/group/plant/+/ü/#", "plant/press-0042/ü/result"
	if n := testing.AllocsPerRun(100, func() {
		_, inner, _ := ParseShare(filter)
		if ValidTopic(topic) != nil || ValidFilter(filter) != nil || !Match(inner, topic) {
			t.Error("valid and matching, and yet not")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
