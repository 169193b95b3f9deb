package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// FlockConfig says how Flock measures.
type FlockConfig struct {
	Flock    flock.Config // of the whole flock; the others follow from it
	Requests int          // of each run
	Seed     uint64       // of the random inputs
}

// FlockReport is what one way of running a model takes.
type FlockReport struct {
	Name     string        `json:"name"`
	Workers  int           `json:"workers"`
	Requests int           `json:"requests"`
	Lost     int           `json:"lost"`
	Decoded  int           `json:"decoded"` // slices
	Latency  flock.Latency `json:"latency_ms"`
	DecodeMs float64       `json:"decode_ms"` // mean of the requests
	Ratio    float64       `json:"ratio"`     // of the medians, to that of one process
	Cost     flock.Cost    `json:"cost"`      // of all requests
}

// flockRounds is how often each way of running gets its turn.
const flockRounds = 5

// warmRequests come before those that count, and meet the fault.
const warmRequests = 3

// Flock runs a model in one process, split without redundancy, with it, with
// it while a worker is dead, and with it by other policies: in turn, so that what else this machine does meets
// all alike. build makes the graph anew for each.
func Flock(ctx context.Context, build func() (*graph.Graph, error), c FlockConfig) (reports []*FlockReport, err error) {
	// Speeds, memory and who holds what are of all workers.
	bare := plan.Options{Data: c.Flock.Plan.Data, Split: c.Flock.Plan.Split, Redundancy: plan.None}
	for _, l := range c.Flock.Plan.Layers {
		bare.Layers = append(bare.Layers, plan.Setting{Node: l.Node, Split: l.Split})
	}
	dead := c.Flock
	dead.Faults = []flock.Fault{{Kind: "kill", Worker: 0, Request: 1}}
	runs := []struct {
		name   string
		config flock.Config
	}{
		{"one process", flock.Config{Threads: c.Flock.Threads, Concurrency: c.Flock.Concurrency}},
		{"workers without redundancy", withPlan(c.Flock, bare)},
		{"with redundancy", c.Flock},
		{"with redundancy, w1 dead", dead},
		{"redundancy hedged", withPolicy(c.Flock, coordinator.Hedged)},
		{"redundancy on failure", withPolicy(c.Flock, coordinator.OnFailure)},
	}
	if c.Flock.Plan.Workers() <= bare.Workers() {
		runs = runs[:2]
	}
	var inputs []*tensor.Tensor
	flocks := make([]*flock.Flock, len(runs))
	defer func() {
		for _, f := range flocks {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	for i, run := range runs {
		g, err := build()
		if err != nil {
			return nil, err
		}
		if inputs == nil {
			for _, in := range g.Inputs {
				inputs = append(inputs, input.Random(in, c.Seed, 0))
			}
		}
		if flocks[i], err = flock.Start(ctx, g, run.config); err != nil {
			return nil, fmt.Errorf("%s: %w", run.name, err)
		}
		reports = append(reports, &FlockReport{Name: run.name, Workers: run.config.Plan.Workers(), Requests: c.Requests})
	}
	took := make([][]time.Duration, len(runs))
	for round := range flockRounds + 1 {
		n := warmRequests
		if round > 0 {
			n = c.Requests*round/flockRounds - c.Requests*(round-1)/flockRounds
		}
		for i, f := range flocks {
			r, err := f.Drive(ctx, flock.Load{
				Requests: n, Concurrency: c.Flock.Concurrency,
				Input: func(int) ([]*tensor.Tensor, error) { return inputs, nil },
			})
			switch {
			case err != nil:
				return nil, err
			case r.Lost > 0:
				return nil, fmt.Errorf("%s: %d of %d requests lost, the first one: %w", runs[i].name, r.Lost, n, r.FirstLoss)
			case round > 0:
				took[i] = append(took[i], r.Took...)
				reports[i].Decoded += r.Decoded
				reports[i].Cost.Add(r.Cost)
				reports[i].DecodeMs += r.DecodeMs * float64(n) / float64(c.Requests)
			}
		}
	}
	for i, r := range reports {
		r.Latency = flock.LatencyOf(took[i])
		r.Ratio = r.Latency.P50 / reports[0].Latency.P50
	}
	return reports, nil
}

func withPolicy(c flock.Config, policy string) flock.Config {
	c.Policy = policy
	return c
}

func withPlan(c flock.Config, p plan.Options) flock.Config {
	c.Plan = p
	return c
}

// PrintFlock writes the reports of one model as a table.
func PrintFlock(w io.Writer, reports []*FlockReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "run\tworkers\trequests\tms: p50\tp90\tp99\tmax\t× one process\tdecoded slices\tdecoding ms\ta request: MB\tGFLOP\tJ, about\t")
	for _, r := range reports {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t%.3f\t%.2f\t%.2f\t%.2f\t\n", r.Name, r.Workers, r.Requests,
			r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max, r.Ratio, r.Decoded, r.DecodeMs,
			float64(r.Cost.Bytes)/1e6/float64(r.Requests), float64(r.Cost.FLOPs)/1e9/float64(r.Requests), r.Cost.Joules/float64(r.Requests))
	}
	return t.Flush()
}
