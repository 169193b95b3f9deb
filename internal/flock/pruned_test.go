package flock_test

import (
	"fmt"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// prunedDigits is the digit model with most of its weights zero, in places that
// differ from slice to slice: so a parity slice, the sum of the others, has fewer
// zeros than they.
func prunedDigits(t *testing.T) *graph.Graph {
	t.Helper()
	g := digitModel(t)
	for _, n := range g.Nodes {
		l, raw, err := engine.LinearOf(g, n)
		if err != nil {
			continue
		}
		w := tensor.View[float32](raw)
		for i := range w {
			row, col := i/l.Cols, i%l.Cols
			block := row + col/16 // of a dense layer
			if l.Op == "Conv" {
				block = row/4 + col
			}
			if block%5 != 0 {
				w[i] *= 0 // of its own sign, as a mask makes it
			}
		}
	}
	return g
}

// TestPrunedModel runs a pruned model over flocks: slices of which zeros are left
// out, and parity slices in which there are fewer, give the bits of the whole.
func TestPrunedModel(t *testing.T) {
	const requests = 40
	for _, c := range []struct {
		k, r  int
		fault []string
	}{{0, 0, nil}, {4, 0, nil}, {4, 1, []string{"kill:w2@10"}}, {4, 1, []string{"stop:w5@10"}}} {
		t.Run(fmt.Sprintf("%d+%d %v", c.k, c.r, c.fault), func(t *testing.T) {
			o := newOracle(t, prunedDigits(t), max(1, c.k), c.r)
			f := startOn(t, prunedDigits(t), flock.Config{Plan: plan.Options{Data: c.k, Parity: c.r}}, c.fault...)
			report, err := f.Drive(t.Context(), flock.Load{
				Requests: requests, Input: digitInput,
				Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
					inputs, _ := digitInput(i)
					o.check(fmt.Sprintf("request %d", i+1), inputs, a)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if report.Lost != 0 || report.Answered != requests {
				t.Errorf("%d of %d requests lost, the first one: %v", report.Lost, requests, report.FirstLoss)
			}
		})
	}
}
