package check

import "time"

// script is how a case is run, or why it is not.
type script struct {
	run   func(*trial)
	skip  string        // why there is nothing to run
	only5 bool          // it needs what MQTT 3.1.1 does not have
	kills bool          // it needs Options.Start
	limit time.Duration // default 20 s
}

const (
	needsCluster = "needs two nodes or a bridge; this tester talks to one broker"
	needsDisk    = "needs the broker's disk: not to be had through its URL"
)

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
	"O09": {run: expiring, only5: true},
	"O10": {run: cutWithUnacked, limit: 30 * time.Second},
	"O11": {run: cutWindowOne, only5: true},
	"O12": {run: backlog},
	"O13": {run: resumeUnderLoad},
	"O14": {run: sameSecond},
	"O15": {skip: "needs a clock that jumps by 18 hours under the broker"},
	"O16": {run: acksOutOfOrder},
	"O17": {run: neverAcked},
	"O18": {run: wrappingIDs, limit: 40 * time.Second},
	"O19": {run: windowReopens},
	"O20": {run: exactlyOnceSteps, limit: 40 * time.Second},
	"O21": {run: publisherCut},
	"O22": {skip: needsCluster},
	"O23": {run: takeover, limit: 30 * time.Second},
	"O24": {skip: needsCluster},
	"O25": {run: killed, kills: true, limit: 60 * time.Second},
	"O26": {skip: needsDisk},
	"O27": {skip: needsDisk},
	"O28": {skip: needsDisk},
	"O29": {run: sharedSteady},
	"O30": {run: sharedChanges},
	"O31": {run: sharedRefused, only5: true},
	"O32": {run: retainedUpdates},
	"O33": {run: lastWords},
	"O34": {skip: needsCluster},
	"O35": {run: requestResponse},
	"O36": {skip: "is about commands, not about a broker: see wilco demo"},
	"O37": {skip: "is about client libraries, not about a broker"},
	"O38": {skip: "takes a day: run the other cases in a loop, each time with another --seed"},
}
