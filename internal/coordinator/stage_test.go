package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// branchy is a network with two branches, a residual Add and pools, then a dense
// layer; its weights and inputs are whole numbers.
func branchy(batch int) *graph.Graph {
	b := newBuilder(batch, 2, 6, 6)
	pads := graph.Attrs{"pads": []int64{1, 1, 1, 1}}
	b.node("Conv", pads, b.last, b.whole(4, 2, 3, 3), b.whole(4))
	stem := b.last
	b.node("Conv", pads, stem, b.whole(4, 4, 3, 3))
	b.node("Relu", nil, b.last)
	b.node("Add", nil, b.last, stem)
	sum := b.last
	b.node("MaxPool", graph.Attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, sum)
	pool := b.last
	b.node("Conv", graph.Attrs{"strides": []int64{2, 2}}, sum, b.whole(3, 4, 2, 2))
	b.node("Concat", graph.Attrs{"axis": int64(1)}, pool, b.last)
	b.node("Flatten", nil, b.last)
	b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, b.whole(9, 63))
	return b.graph()
}

// front plans the nodes up to the last of an operator as a stage that w1 holds, with
// copies; the layers behind it are split as ever.
func front(t testing.TB, g *graph.Graph, last string, copies ...int) *prepared {
	t.Helper()
	set := plan.Setting{Node: g.Nodes[0].Name, Data: []int{0}, Spare: copies, Redundancy: plan.Replicate}
	if len(copies) == 0 {
		set.Redundancy = plan.None
	}
	for _, n := range g.Nodes {
		if n.Op == last {
			set.To = n.Name
		}
	}
	return prepareBy(t, g, plan.Options{Data: 3, Parity: 1, Layers: []plan.Setting{set}})
}

// fronts are stages, with the copies given, that numbers of every kind go into and
// come out of.
func fronts(t testing.TB, copies ...int) map[string]*prepared {
	t.Helper()
	return map[string]*prepared{
		"branches":          front(t, branchy(2), "Flatten", copies...),
		"the whole model":   front(t, branchy(1), "Gemm", copies...),
		"dense":             front(t, models["dense"](2), "Relu", copies...),
		"bytes":             front(t, quantisedModel(2), "Flatten", copies...),
		"bytes to integers": front(t, quantisedModel(1), "MatMulInteger", copies...),
	}
}

// Whoever holds the stage dies in the middle of a request, and is dead after it: the
// other answers, nothing is lost, waited for or computed here, and the bits are those
// of a local run.
func TestStageWithOneDeadHolder(t *testing.T) {
	for name, p := range fronts(t, 1) {
		for _, dead := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s w%d", name, dead+1), func(t *testing.T) {
				var l *lab
				cfg := coordinator.Config{OnScatter: func(request uint64, layer int) {
					if request == 2 && layer == 0 {
						l.machines[dead].crash()
					}
				}}
				inLab(t, p, cfg, func(t *testing.T, lab *lab) {
					l = lab
					l.start()
					l.delay(10*time.Millisecond, l.all()...)
					for request := 1; request <= 4; request++ {
						a, took := l.infer()
						if len(a.Recomputed)+len(a.Reasked) != 0 || took > time.Duration(len(l.plan.Layers))*10*time.Millisecond {
							t.Errorf("request %d took %v: %+v", request, took, a)
						}
					}
				})
			})
		}
	}
}

// With all holders dead the stage is computed here; if there never was a copy and
// nobody asked for patience, that loses the request.
func TestStageWithoutHolders(t *testing.T) {
	for name, p := range fronts(t, 1) {
		t.Run(name, func(t *testing.T) {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start(0, 1)
				for range 2 {
					a, _ := l.infer()
					if len(a.Recomputed) == 0 || a.Recomputed[0] != (coordinator.Recovered{}) {
						t.Errorf("recomputed %v", a.Recomputed)
					}
				}
				l.machines[1].start()
				synctest.Wait()
				if a, _ := l.infer(); len(a.Recomputed) != 0 {
					t.Errorf("w2 is back, recomputed %v", a.Recomputed)
				}
			})
		})
	}
	p := front(t, branchy(1), "Flatten")
	inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start(0)
		in, _ := l.request(t, l.r)
		var lost *coordinator.LostError
		if err := l.c.Infer(context.Background(), in, new(coordinator.Answer)); !errors.As(err, &lost) || lost.Layer != "Conv0 to Flatten7" {
			t.Errorf("error %v", err)
		}
	})
	inLab(t, p, coordinator.Config{Patience: 2}, func(t *testing.T, l *lab) {
		l.start(0)
		if a, _ := l.infer(); len(a.Recomputed) != 1 {
			t.Errorf("recomputed %v", a.Recomputed)
		}
	})
}

// Two copies survive two losses.
func TestStageWithTwoCopies(t *testing.T) {
	for _, p := range fronts(t, 1, 2) {
		for alive := range 3 {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start((alive+1)%3, (alive+2)%3)
				a, _ := l.infer()
				for _, r := range a.Recomputed {
					if r.Layer == 0 {
						t.Errorf("w%d is there: recomputed %v", alive+1, a.Recomputed)
					}
				}
			})
		}
	}
}

// A holder that hangs costs nothing if copies are always asked, else one wait; a spare
// that holds its shard takes its place.
func TestStageOfALateHolder(t *testing.T) {
	p := front(t, branchy(1), "Gemm", 1)
	for _, policy := range coordinator.Policies {
		inLab(t, p, coordinator.Config{Policy: policy}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(10*time.Millisecond, l.all()...)
			l.infer()
			l.delay(time.Hour, 0)
			for range 3 {
				a, took := l.infer()
				if most := 2 * 50 * time.Millisecond; len(a.Recomputed) != 0 || took > most || policy == coordinator.Always && took > 10*time.Millisecond {
					t.Errorf("%s: took %v, %+v", policy, took, a)
				}
			}
		})
	}
	inLab(t, front(t, branchy(1), "Gemm"), coordinator.Config{Spares: 1, Patience: 2}, func(t *testing.T, l *lab) {
		l.start()
		l.machines[0].crash()
		synctest.Wait()
		time.Sleep(2 * time.Second) // moments pass
		if a, _ := l.infer(); len(a.Recomputed) != 0 {
			t.Errorf("the spare has the place: %+v", a)
		}
	})
}

// An audit compares the copies of a stage and finds the wrong one.
func TestAuditOfStages(t *testing.T) {
	for name, p := range fronts(t, 1) {
		for liar := range 2 {
			t.Run(fmt.Sprintf("%s w%d", name, liar+1), func(t *testing.T) { audited(t, p, liar) })
		}
	}
}

// What a stage cannot be computed from is refused by whoever is asked, at last by the
// coordinator, which says why.
func TestStageOfAWrongIndex(t *testing.T) {
	b := newBuilder(3)
	b.g.Inputs[0].Type = tensor.Int64
	b.node("Gather", nil, b.whole(5, 4), b.last)
	p := front(t, b.graph(), "Gather", 1)
	inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		for _, c := range []struct {
			in   []int64
			says string
		}{{[]int64{0, 4, 2}, ""}, {[]int64{0, 5, 2}, "index"}, {[]int64{1, 1, 1}, ""}} {
			in := []*tensor.Tensor{tensor.FromSlice(c.in, 3)}
			var a coordinator.Answer
			err := l.c.Infer(context.Background(), in, &a)
			switch {
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v: %v", c.in, err)
			case c.says == "" && (err != nil || !same(a.Outputs, l.local(t, in)) || len(a.Recomputed) != 0):
				t.Errorf("%v: %v, %+v", c.in, err, a)
			}
		}
	})
}

// Nor does it help to wait for workers that say nothing: what cannot be computed here
// cannot be computed by them.
func TestStageOfAWrongIndexAndSilentWorkers(t *testing.T) {
	b := newBuilder(3)
	b.g.Inputs[0].Type = tensor.Int64
	b.node("Gather", nil, b.whole(5, 4), b.last)
	inLab(t, front(t, b.graph(), "Gather", 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start(0, 1)
		for i := range 2 {
			conn, there := link.Pipe(link.Config{})
			defer conn.Close()
			if err := l.c.Attach(there); err != nil {
				t.Fatal(err)
			}
			hello := &frame.HelloInfo{Version: frame.Protocol, ID: fmt.Sprint(i), Name: fmt.Sprintf("w%d", i+1)}
			if err := conn.SendInfo(t.Context(), frame.Hello, hello); err != nil {
				t.Fatal(err)
			}
			conn.TrySend(frame.Header{Type: frame.Ready}, nil)
			go func() {
				for err := error(nil); err == nil; {
					_, _, err = conn.Receive()
				}
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		err := l.c.Infer(ctx, []*tensor.Tensor{tensor.FromSlice([]int64{0, 5, 2}, 3)}, new(coordinator.Answer))
		if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "index") || took > 6*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A stage's weights stay, those of layers beside it can change.
func TestUpdateBesideAStage(t *testing.T) {
	inLab(t, front(t, branchy(1), "Flatten", 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		err := l.c.UpdateRows(context.Background(), "Conv1", 0, make([]float32, 36), nil)
		if err == nil || !strings.Contains(err.Error(), "it is in the stage Conv0 to Flatten7") {
			t.Errorf("error %v", err)
		}
		if err := l.c.UpdateRows(context.Background(), "Gemm8", 2, make([]float32, 63), nil); err != nil {
			t.Fatal(err)
		}
		clear(l.g.Constants[l.g.Nodes[8].Inputs[1]].F32()[2*63 : 3*63])
		if a, _ := l.infer(); len(a.Recomputed)+len(a.Decoded) != 0 {
			t.Errorf("%+v", a)
		}
	})
}

// Over a narrow wire whoever computes the stage computes from the same input, and
// rounds alike: the answer does not depend on who it is.
func TestStageOnANarrowWire(t *testing.T) {
	for _, as := range []wire.Encoding{wire.F16, wire.Int8} {
		g := branchy(1)
		p := prepareBy(t, g, plan.Options{Data: 3, Parity: 1, Wire: as, Layers: []plan.Setting{
			{Node: "Conv0", To: "Gemm8", Data: []int{0}, Spare: []int{1}, Redundancy: plan.Replicate},
		}})
		in := []*tensor.Tensor{normal(random(t), g.Inputs[0].Shape...)}
		var first coordinator.Answer
		for _, dead := range [][]int{nil, {0}, {1}} {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start(dead...)
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil {
					t.Fatal(err)
				}
				if first.Outputs == nil {
					first.Outputs = a.Outputs
				}
				if !same(a.Outputs, first.Outputs) || same(a.Outputs, l.local(t, in)) {
					t.Errorf("%v with %v dead: another answer, or one that was not rounded", as, dead)
				}
			})
		}
	}
}

// A random run of a random network is a stage with a random cover, whatever the rest
// is split by: with each worker dead the answer is a local run's.
func TestRandomStages(t *testing.T) {
	cases := 60
	if testing.Short() {
		cases = 15
	}
	r := random(t)
	for i := 0; i < cases; {
		g := branchy(1 + r.IntN(2))
		a := r.IntN(len(g.Nodes))
		z := a + r.IntN(len(g.Nodes)-a)
		opt := randomOptions(r)
		set := plan.Setting{Node: g.Nodes[a].Name, To: g.Nodes[z].Name, Redundancy: []string{"", plan.Replicate}[r.IntN(2)]}
		opt.Layers = []plan.Setting{set}
		if r.IntN(2) == 0 { // all of it in stages, or those beside that one
			opt.Split, opt.Layers = plan.Stage, opt.Layers[:r.IntN(2)]
		}
		if _, err := plan.New(g, opt); err != nil {
			continue // no stage, or no split: package plan tests it
		}
		i++
		p := prepareBy(t, g, opt)
		t.Run(fmt.Sprintf("%d %s to %s, %s %s k=%d", i, set.Node, set.To, opt.Split, opt.Redundancy, opt.Data), func(t *testing.T) {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start()
				l.infer()
			})
			if opt.Redundancy == plan.None {
				return
			}
			for dead := range p.plan.N() {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead)
					l.covered(opt, dead)
				})
			}
		})
	}
}
