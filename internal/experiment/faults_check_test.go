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

// TestSoak is `starling experiment soak`, made short: it too fails by itself.
func TestSoak(t *testing.T) {
	c := experiment.SoakConfig{
		Command: command, Data: 4, Parity: 1, Duration: 5 * time.Second, Load: 0.5,
		Every: 300 * time.Millisecond, Clients: 4, StateDir: t.TempDir(),
	}
	r, err := experiment.Soak(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	faults := 0
	for _, s := range r.Samples {
		faults += s.Faults
	}
	if faults == 0 {
		t.Error("nothing failed")
	}
}
