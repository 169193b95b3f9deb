package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// afar is an engine.Remote that computes split layers here, and rounds what would
// travel as it would be rounded.
type afar struct{ *prepared }

func (f *afar) Linear(_ context.Context, number int, dst, x []byte, _ int32) error {
	layer := &f.plan.Layers[number]
	_, w, err := engine.LinearOf(f.g, f.plan.Nodes(f.g)[number]...)
	if err != nil {
		return err
	}
	seen := append([]float32(nil), tensor.View[float32](x)...)
	travel(layer.Wire, seen)
	for j := range layer.K() {
		e, err := engine.NewSlice(layer.Slice(j), layer.Weights(j, w))
		if err != nil {
			return err
		}
		y := make([]float32, layer.Slice(j).OutputLen())
		e.Run(nil, tensor.Bytes(y), tensor.Bytes(seen), nil)
		part := layer.Slice(j)
		for b := range layer.Blocks(j) {
			begin := b * layer.BlockHeight()
			end := min(begin+layer.BlockHeight(), part.Rows)
			var block []float32 // [Outer,rows,Inner]
			for o := range part.Outer {
				block = append(block, y[(o*part.Rows+begin)*part.Inner:(o*part.Rows+end)*part.Inner]...)
			}
			travel(layer.Wire, block)
			layer.Place(j, b, dst, tensor.Bytes(block))
		}
	}
	return nil
}

// travel rounds x as the way does.
func travel(as wire.Encoding, x []float32) {
	b := tensor.Alloc(as.Size(len(x)))
	if as.Encode(b, x) {
		as.Decode(x, b)
	}
}

// rounded is the answer of a healthy flock.
func (p *prepared) rounded(t *testing.T, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	split := map[string]int{}
	for i, l := range p.plan.Layers {
		for _, n := range l.Nodes {
			split[n] = i
		}
	}
	program, err := engine.Compile(p.g, engine.Options{Split: split})
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.NewSession().Run(t.Context(), &afar{p}, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A healthy flock's answer is that of one machine that rounds inputs and results
// of split layers, whatever the blocks; with a worker lost it differs by no more
// than the roundings of those that are there.
func TestWire(t *testing.T) {
	for _, as := range []wire.Encoding{wire.F16, wire.Int8} {
		for _, name := range []string{"dense", "conv"} {
			for _, block := range []int{0, 2} {
				p := prepareBy(t, models[name](2), plan.Options{Data: 3, Parity: 1, Wire: as, Block: block})
				t.Run(fmt.Sprintf("%v, %s, blocks of %d", as, name, block), func(t *testing.T) {
					inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
						l.start()
						for range 3 {
							in, _ := l.request(t, l.r)
							var a coordinator.Answer
							if err := l.c.Infer(t.Context(), in, &a); err != nil {
								t.Fatal(err)
							}
							if want := p.rounded(t, in); !same(a.Outputs, want) || len(a.Decoded) > 0 {
								t.Errorf("got %v, want %v, decoded %v", a.Outputs[0].F32(), want[0].F32(), a.Decoded)
							}
						}
					})
				})
			}
		}
	}
}

// A decoded slice has the errors of the results that it was decoded from, and no
// more: here from one layer whose results are known.
func TestDecodedFromRounded(t *testing.T) {
	g := newBuilder(1, 9)
	g.node("MatMul", nil, g.last, g.whole(9, 12))
	for _, as := range []wire.Encoding{wire.F16, wire.Int8} {
		p := prepareBy(t, g.graph(), plan.Options{Data: 3, Parity: 1, Wire: as})
		for dead := range 4 {
			t.Run(fmt.Sprintf("%v, w%d is dead", as, dead+1), func(t *testing.T) {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead)
					in, _ := l.request(t, l.r)
					for i := range in[0].F32() {
						in[0].F32()[i] *= 0.3 // nothing is exact any more
					}
					var a coordinator.Answer
					if err := l.c.Infer(t.Context(), in, &a); err != nil {
						t.Fatal(err)
					}
					seen := &tensor.Tensor{Type: tensor.Float32, Shape: in[0].Shape, Data: append([]byte(nil), in[0].Data...)}
					travel(as, seen.F32())
					exact := p.local(t, []*tensor.Tensor{seen})[0].F32()
					most := 0.0 // |result|, of the parity too
					for i := range exact[:4] {
						most = max(most, math.Abs(float64(exact[i])), math.Abs(float64(exact[i+4])), math.Abs(float64(exact[i+8])))
						most = max(most, math.Abs(float64(exact[i]+exact[i+4]+exact[i+8])))
					}
					each := most * 0x1p-11
					if as == wire.Int8 {
						each = 2 * most / 510
					}
					for i, v := range a.Outputs[0].F32() {
						bound := each
						for _, d := range a.Decoded {
							if d.Slice == i/4 {
								bound = 3 * each // of two data slices and the parity
							}
						}
						if err := math.Abs(float64(v) - float64(exact[i])); err > bound*(1+1e-4) {
							t.Errorf("element %d is %v, without rounding %v: off by %v, bound %v, decoded %v", i, v, exact[i], err, bound, a.Decoded)
						}
					}
				})
			})
		}
	}
}

// What an encoding cannot hold travels as it is.
func TestNotFiniteOnTheWire(t *testing.T) {
	for _, as := range []wire.Encoding{wire.F16, wire.Int8} {
		p := prepareBy(t, models["dense"](2), plan.Options{Data: 3, Parity: 1, Wire: as})
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			for _, put := range []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32} {
				in, _ := l.request(t, l.r)
				in[0].F32()[3] = put
				var a coordinator.Answer
				if err := l.c.Infer(t.Context(), in, &a); err != nil {
					t.Fatal(err)
				}
				want := p.rounded(t, in)[0].F32()
				for i, v := range a.Outputs[0].F32() {
					if v != want[i] && (v == v || want[i] == want[i]) {
						t.Errorf("%v of %v: element %d is %v, want %v", as, put, i, v, want[i])
					}
				}
			}
		})
	}
}

func TestAuditNeedsF32(t *testing.T) {
	for _, opt := range []plan.Options{
		{Data: 3, Parity: 1, Wire: wire.F16},
		{Data: 3, Parity: 1, Wire: wire.Int8, Split: plan.Spatial},
		{Data: 3, Wire: wire.F16, Redundancy: plan.Replicate},
	} {
		p := prepareBy(t, models["conv"](1), opt)
		if _, err := coordinator.New(p.g, p.plan, p.infos, coordinator.Config{Audit: 0.1}); !errors.Is(err, coordinator.ErrAuditWire) {
			t.Errorf("%+v: got %v", opt, err)
		}
	}
}

// The caller's deadline stands in what workers are sent.
func TestDeadlineReachesWorkers(t *testing.T) {
	p := model(t, "dense", 1, 3, 0)
	inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
		var left time.Duration
		im := l.impostor(0, func(im *impostor, h frame.Header, right []float32) {
			left = h.Left()
			h.Flags = 0
			im.send(h, right)
		})
		defer im.end()
		l.machines[1].start()
		l.machines[2].start()
		synctest.Wait()
		in, _ := l.request(t, l.r)
		for _, limit := range []time.Duration{0, 200 * time.Millisecond} {
			ctx := context.Background()
			if limit > 0 {
				var cancel func()
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			if err := l.c.Infer(ctx, in, &coordinator.Answer{}); err != nil {
				t.Fatal(err)
			}
			if synctest.Wait(); left != limit {
				t.Errorf("%v left, want %v", left, limit)
			}
		}
	})
}
