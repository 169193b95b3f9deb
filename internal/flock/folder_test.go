package flock_test

import (
	"os"
	"path/filepath"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/plan"
)

// A run removes the folder of one that was killed, and leaves alone that of one
// that lives, and what is not a run's.
func TestDeadRunsAreSwept(t *testing.T) {
	state := t.TempDir()
	start := func() *flock.Flock {
		f, err := flock.Start(t.Context(), digitModel(t), flock.Config{Plan: plan.Options{Data: 2, Parity: 1}, Command: command, StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	dead, foreign := filepath.Join(state, "starling-run-dead"), filepath.Join(state, "starling-run-foreign")
	for _, file := range []string{filepath.Join(dead, "lock"), filepath.Join(dead, "shards", "x.shard"), filepath.Join(foreign, "mine")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := start()
	start()
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead run's folder: %v", err)
	}
	if entries, _ := filepath.Glob(filepath.Join(state, "starling-run-*")); len(entries) != 3 {
		t.Errorf("folders %q, want the foreign one and two", entries)
	}
	inputs, err := digitInput(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Infer(t.Context(), inputs, new(coordinator.Answer)); err != nil {
		t.Error(err)
	}
}
