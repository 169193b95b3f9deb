//go:build check

package experiment_test

import (
	"strings"
	"testing"
	"time"

	"starling/internal/experiment"
)

// TestFaults is `starling experiment faults`, made short: it fails by itself if
// anything was lost or wrong with parity, or if a way of recovering never ran.
func TestFaults(t *testing.T) {
	var out strings.Builder
	c := experiment.FaultsConfig{
		Command: command, Policies: []string{"4+1"}, Lasts: 600 * time.Millisecond, Clients: 2, StateDir: t.TempDir(),
	}
	cells, err := experiment.Faults(t.Context(), c)
	if err != nil {
		t.Error(err)
	}
	if err := experiment.PrintFaults(&out, cells); err != nil {
		t.Error(err)
	}
	t.Log("\n" + out.String())
	if want := len(experiment.FaultNames()) - 1; len(cells) < want { // memory can't be limited everywhere
		t.Errorf("%d cells, not %d", len(cells), want)
	}
}
