// Package experiment runs and tabulates what the project claims: each
// experiment is one function that does real runs and prints what they gave.
package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// rounds is how often the demo runs all digits before the fault and again
// after it.
const rounds = 2

// demoRun is one row of the demo's table.
type demoRun struct {
	name            string
	workers, parity int
	fault           string // of a worker, in the middle of the first request of the second half
}

// half is what the requests before or after the fault gave.
type half struct {
	right, answered int
	changed         int // answers that are not those of the plain run
	took            []time.Duration
}

func (h half) median() string {
	if h.answered == 0 {
		return "none"
	}
	return fmt.Sprintf("%.2f", flock.LatencyOf(h.took).P50)
}

// Demo runs the digits of this repository over worker processes on this
// machine, kills and stops workers in mid-request, with parity and without,
// and prints a table. It fails if a coded run lost a request or gave another
// answer than the plain run. command starts a worker; see flock.Config.
func Demo(ctx context.Context, w io.Writer, command []string) error {
	const k = 4
	runs := []demoRun{
		{"one process, no workers", 0, 0, ""},
		{"4+1, nothing happens", k, 1, ""},
		{"4+1, w2 killed", k, 1, "kill:w2"},
		{"4+1, w3 stopped", k, 1, "stop:w3"},
		{"4 without parity, w2 killed", k, 0, "kill:w2"},
		{"4 without parity, w3 stopped", k, 0, "stop:w3"},
	}
	n := digits.Count * rounds
	fmt.Fprintf(w, "A digit network (LeNet-5, every layer split over %d workers) reads %d digits %d times:\n"+
		"%d requests, then a worker fails in the middle of the next one, then the rest.\n\n",
		k, digits.Count, 2*rounds, n)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "run\trequests\tanswered\tlost\tdecoded\tright before\tright after\tmedian ms before\tmedian ms after\tlongest ms\t")
	var plain []int // classes
	var failures []error
	for _, run := range runs {
		report, before, after, classes, err := run.do(ctx, command, plain)
		if err != nil {
			return fmt.Errorf("%s: %w", run.name, err)
		}
		if plain == nil {
			plain = classes
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%.1f\t\n", run.name,
			report.Requests, report.Answered, report.Lost, report.Decoded,
			share(before), share(after), before.median(), after.median(), max(report.Latency.Max, float64(report.LongestLoss)/float64(time.Millisecond)))
		if run.parity > 0 && (report.Lost > 0 || before.changed+after.changed > 0) {
			failures = append(failures, report.FirstLoss, fmt.Errorf("%s: %d requests lost, %d answers changed",
				run.name, report.Lost, before.changed+after.changed))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, `
decoded: slices that a worker owed and that parity gave instead, by a subtraction.
right: digits read right, of those answered, before and after the fault; so the latencies.
Without parity every request needs every worker: what the lost one owed is lost.
This network is far too small to gain from splitting; look at what a failure costs.
`)
	return errors.Join(failures...)
}

func share(h half) string {
	if h.answered == 0 {
		return "none"
	}
	return fmt.Sprintf("%d/%d", h.right, h.answered)
}

// do runs all digits, fails a worker, and runs them again. plain are the
// classes to compare with, nil for none.
func (run demoRun) do(ctx context.Context, command []string, plain []int) (r *flock.Report, before, after half, classes []int, err error) {
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		return nil, before, after, nil, err
	}
	n := digits.Count * rounds
	cfg := flock.Config{Plan: plan.Options{Data: run.workers, Parity: run.parity}, Command: command, Concurrency: 1}
	if run.fault != "" {
		fault, err := flock.ParseFault(fmt.Sprintf("%s@%d", run.fault, n+1))
		if err != nil {
			return nil, before, after, nil, err
		}
		cfg.Faults = []flock.Fault{fault}
	}
	f, err := flock.Start(ctx, g, cfg)
	if err != nil {
		return nil, before, after, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	inputs, labels := digitInputs(), digits.Labels()
	classes = make([]int, 2*n)
	r, err = f.Drive(ctx, flock.Load{
		Requests: 2 * n,
		Input: func(i int) ([]*tensor.Tensor, error) {
			return inputs[i%digits.Count : i%digits.Count+1], nil
		},
		Answered: func(i int, a *coordinator.Answer, took time.Duration) {
			h := &before
			if i >= n {
				h = &after
			}
			classes[i] = argmax(a.Outputs[0].F32())
			h.answered++
			h.took = append(h.took, took)
			if classes[i] == int(labels[i%digits.Count]) {
				h.right++
			}
			if plain != nil && classes[i] != plain[i] {
				h.changed++
			}
		},
	})
	return r, before, after, classes, err
}

// digitInputs are the digits as the model wants them, [1,1,28,28] in 0…1.
func digitInputs() []*tensor.Tensor {
	pixels := digits.Images()
	out := make([]*tensor.Tensor, digits.Count)
	for i := range out {
		out[i] = tensor.New(tensor.Float32, 1, 1, digits.Rows, digits.Cols)
		x := out[i].F32()
		for p, v := range pixels[i*len(x) : (i+1)*len(x)] {
			x[p] = float32(v) / 255
		}
	}
	return out
}

func argmax(scores []float32) int {
	best := 0
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
	}
	return best
}
