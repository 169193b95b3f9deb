package coordinator_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/shard"
)

// withRows is a copy of the model in which some rows of a node are other ones.
// The node's constant must lie as rows. bias may be nil.
func withRows(t *testing.T, g *graph.Graph, node string, begin int, rows, bias []float32) *graph.Graph {
	t.Helper()
	changed := *g
	changed.Constants = maps.Clone(g.Constants)
	n := g.Nodes[slices.IndexFunc(g.Nodes, func(n *graph.Node) bool { return n.Name == node })]
	l, _, err := engine.LinearOf(g, n)
	if err != nil {
		t.Fatal(err)
	}
	w := g.Constants[n.Inputs[1]].Clone()
	copy(w.F32()[begin*l.Cols:], rows)
	changed.Constants[n.Inputs[1]] = w
	if bias != nil {
		b := g.Constants[n.Inputs[2]].Clone()
		copy(b.F32()[begin:], bias)
		changed.Constants[n.Inputs[2]] = b
	}
	return &changed
}

// After an update the workers' shards are those of a new deployment of the
// changed model, answers are those of the changed model, with a worker lost
// too, and no request under way saw some of both.
func TestUpdateRows(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  plan.Options
	}{
		{"parity", plan.Options{Data: 3, Parity: 1}},
		{"one slice", plan.Options{Data: 1, Parity: 1}},
		{"replicated", plan.Options{Data: 2, Redundancy: plan.Replicate}},
		{"partial sums", plan.Options{Data: 3, Parity: 1, Split: plan.Input}},
		{"tiles", plan.Options{Data: 3, Parity: 1, Split: plan.Spatial}},
		{"channels of input", plan.Options{Data: 2, Parity: 1, Split: plan.Filter}},
		{"with a bias", plan.Options{Data: 3, Parity: 1}},
		{"uneven", plan.Options{Data: 3, Parity: 1, Speeds: []float64{1, 0.3, 2, 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := models["conv"](2)
			node := "Gemm4" // 9 rows of 63
			if c.opt.Split == plan.Spatial || c.opt.Split == plan.Filter {
				node = "Conv2" // 7 channels of 5·9
			}
			if c.name == "with a bias" {
				node = "Gemm0" // 13 rows of 9
				g = models["dense"](2)
			}
			p := prepareBy(t, g, c.opt)
			inLab(t, p, coordinator.Config{Concurrency: 3}, func(t *testing.T, l *lab) {
				for _, m := range l.machines {
					m.dir = t.TempDir() // nothing is held in common
				}
				l.start()
				l.delay(10*time.Millisecond, l.all()...)
				for round, begin := range []int{0, 4, 5} {
					l.update(node, begin, 1+round%2)
				}
				for dead := range l.machines {
					l.machines[dead].halt()
					if a, _ := l.infer(); len(a.Recomputed) != 0 {
						t.Errorf("w%d dead: %+v", dead+1, a)
					}
					l.machines[dead].start()
					l.delayAll()
				}
				// Whoever computes here does so with the new weights too.
				for dead := range l.machines {
					l.machines[dead].halt()
				}
				l.infer()
			})
		})
	}
}

// delayAll waits until every machine serves.
func (l *lab) delayAll() {
	l.t.Helper()
	if err := l.c.WaitReady(context.Background()); err != nil {
		l.t.Fatal(err)
	}
}

// update changes n rows while clients run, and makes the lab's model the
// changed one.
func (l *lab) update(node string, begin, n int) {
	l.t.Helper()
	g := l.g
	linear, _, err := engine.LinearOf(g, g.Nodes[slices.IndexFunc(g.Nodes, func(n *graph.Node) bool { return n.Name == node })])
	if err != nil {
		l.t.Fatal(err)
	}
	rows := whole(l.r, n, linear.Cols).F32()
	var bias []float32
	if g.Nodes[slices.IndexFunc(g.Nodes, func(n *graph.Node) bool { return n.Name == node })].Input(2) != "" {
		bias = whole(l.r, n).F32()
	}
	after := *l.prepared
	after.g = withRows(l.t, g, node, begin, rows, bias)
	in, old := l.request(l.t, l.r)
	now := after.local(l.t, in)
	var clients sync.WaitGroup
	updated := make(chan struct{})
	for range 3 {
		clients.Go(func() {
			var a coordinator.Answer
			for done := false; !done; {
				select {
				case <-updated:
					done = true // once more
				default:
				}
				if err := l.c.Infer(context.Background(), in, &a); err != nil {
					l.t.Error(err)
					return
				}
				if fresh := same(a.Outputs, now); !fresh && (done || !same(a.Outputs, old)) {
					l.t.Errorf("request %d has neither model's answer, or the old one too late", a.Request)
				}
			}
		})
	}
	time.Sleep(35 * time.Millisecond)
	if err := l.c.UpdateRows(context.Background(), node, begin, rows, bias); err != nil {
		l.t.Error(err)
	}
	close(updated)
	clients.Wait()
	l.prepared = &after
	l.checkDeployed()
	for i, s := range l.c.Status() {
		if s.State != coordinator.Ready && s.State != coordinator.Spare {
			l.t.Errorf("w%d is %s after an update", i+1, s.State)
		}
	}
}

// checkDeployed compares the workers' files with those of a new deployment.
func (l *lab) checkDeployed() {
	l.t.Helper()
	store, err := shard.OpenStore(l.t.TempDir())
	if err != nil {
		l.t.Fatal(err)
	}
	infos, err := shard.Build(store, l.g, l.plan)
	if err != nil {
		l.t.Fatal(err)
	}
	for w, info := range infos {
		if _, err := os.Stat(filepath.Join(l.machines[w].dir, filepath.Base(info.Path))); err != nil {
			l.t.Errorf("w%d does not have the shard of a new deployment: %v", w+1, err)
		}
	}
}

func TestUpdateIsRefused(t *testing.T) {
	p := prepareBy(t, models["conv"](1), plan.Options{Data: 2, Parity: 1})
	huge := slices.Repeat([]float32{3e38}, 63)
	inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		before, err := os.ReadDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			node  string
			begin int
			rows  []float32
			bias  []float32
			says  string
		}{
			{"Relu1", 0, huge, nil, "no split layer"},
			{"Gemm4", -1, huge, nil, "do not fit [9,63]"},
			{"Gemm4", 9, huge, nil, "do not fit"},
			{"Gemm4", 0, huge[1:], nil, "do not fit"},
			{"Gemm4", 0, nil, nil, "do not fit"},
			{"Gemm4", 8, append(huge, huge...), nil, "do not fit"},
			{"Gemm4", 0, huge, []float32{1, 2}, "a bias of 2 values for 1 rows"},
			{"Gemm4", 0, huge, []float32{1}, "no constant bias"},
		} {
			if err := l.c.UpdateRows(t.Context(), c.node, c.begin, c.rows, c.bias); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s row %d: %v", c.node, c.begin, err)
			}
		}
		// Rows 0 and 5 are of slices that parity adds.
		if err := l.c.UpdateRows(t.Context(), "Gemm4", 0, slices.Repeat(huge, 9), nil); err == nil || !strings.Contains(err.Error(), "overflows") {
			t.Errorf("a sum of weights that overflows: %v", err)
		}
		l.infer()
		if after, err := os.ReadDir(p.dir); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("files before %v, after %v", before, after)
		}
	})
}
