package experiment_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"starling/internal/digits"
	"starling/internal/experiment"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/plan"
)

func TestLink(t *testing.T) {
	var reports []*experiment.LinkReport
	for _, size := range []int{1, 100_000} {
		c := experiment.LinkConfig{Bytes: size, Requests: 20, Workers: 3, Command: []string{command[0], "bench", "echo"}}
		r, err := experiment.Link(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Bytes != size || r.Requests != 20 || r.Workers != 3 || !(r.Link.P50 > 0 && r.Plain.P50 > 0 && r.Ratio == r.Link.P50/r.Plain.P50) {
			t.Errorf("%+v", r)
		}
		reports = append(reports, r)
	}
	var out strings.Builder
	if err := experiment.PrintLinks(&out, reports); err != nil || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%v\n%s", err, out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := experiment.Link(ctx, experiment.LinkConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
}

func TestFlock(t *testing.T) {
	build := func() (*graph.Graph, error) { return onnx.DecodeBytes(digits.Model) }
	tests := []struct {
		name    string
		plan    plan.Options
		workers []int
	}{
		{"parity", plan.Options{Data: 3, Parity: 1}, []int{0, 3, 4, 4, 4, 4}},
		{"single layers", plan.Options{Data: 3, Parity: 1, Speeds: []float64{1, 1, 1, 2}, Memory: []int64{1e6, 1e6, 1e6, 1e6}, Layers: []plan.Setting{
			{Node: "conv1", Split: plan.Spatial, Redundancy: plan.Inputs},
			{Node: "fc1", Data: []int{0, 3}, Spare: []int{1}},
		}}, []int{0, 3, 4, 4, 4, 4}},
		{"replicate", plan.Options{Data: 2, Redundancy: plan.Replicate}, []int{0, 2, 4, 4, 4, 4}},
		{"none", plan.Options{Data: 2, Redundancy: plan.None}, []int{0, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			state := t.TempDir()
			c := experiment.FlockConfig{Requests: 12, Flock: flock.Config{Plan: test.plan, Concurrency: 2, Command: command, StateDir: state}}
			reports, err := experiment.Flock(t.Context(), build, c)
			if err != nil {
				t.Fatal(err)
			}
			if len(reports) != len(test.workers) {
				t.Fatalf("%d reports, want %d", len(reports), len(test.workers))
			}
			for i, r := range reports {
				if r.Workers != test.workers[i] || r.Requests != 12 || r.Lost != 0 || !(r.Latency.P50 > 0 && r.Ratio > 0) {
					t.Errorf("%+v, want %d workers", r, test.workers[i])
				}
			}
			if test.name == "parity" && reports[3].Decoded == 0 {
				t.Error("nothing was decoded for the dead worker")
			}
			if len(reports) > 5 && !(reports[5].Cost.FLOPs < reports[2].Cost.FLOPs && reports[5].Cost.Bytes < reports[2].Cost.Bytes) {
				t.Errorf("on failure costs %+v, always %+v", reports[5].Cost, reports[2].Cost)
			}
			if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			var out strings.Builder
			if err := experiment.PrintFlock(&out, reports); err != nil || strings.Count(out.String(), "\n") != 1+len(reports) {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}
