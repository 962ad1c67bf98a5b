package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/client"
)

func TestStatsCountInWords(t *testing.T) {
	var out bytes.Buffer
	printStats(&out, &client.Stats{Commands: 1, Types: []client.TypeStats{{Name: "move", Commands: 2}}})
	if got := out.String(); !strings.HasPrefix(got, "1 command since ") || !strings.Contains(got, "move: 2 commands, 0 open") {
		t.Error(got)
	}
}
