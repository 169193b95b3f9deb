package coordinator_test

import (
	"math"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// inBlocks is a model of which each slice has a row in a block.
func inBlocks(t *testing.T, name string, k, r int) *prepared {
	t.Helper()
	return prepareBy(t, models[name](1), plan.Options{Data: k, Parity: r, Block: 1})
}

// block sends block b of a right result. The batch is one, so that the block's
// rows lie together.
func (im *impostor) block(h frame.Header, right []float32, b int) {
	h.Nth = uint32(b)
	im.send(h, tensor.View[float32](im.p.plan.Layers[h.Layer].Kept(int(h.Slice), b, tensor.Bytes(right))))
}

func (im *impostor) blocks(h frame.Header) int {
	return im.p.plan.Layers[h.Layer].Blocks(int(h.Slice))
}

// Of each block any k results are enough: two workers of a code for one loss give
// half of their blocks each, and nothing is computed here.
func TestBlocksMissDifferentWorkers(t *testing.T) {
	for _, name := range []string{"dense", "conv"} {
		inLab(t, inBlocks(t, name, 3, 1), coordinator.Config{Grace: -1}, func(t *testing.T, l *lab) {
			l.start(0, 1)
			for slot := range 2 {
				defer l.impostor(slot, func(im *impostor, h frame.Header, right []float32) {
					for b := range im.blocks(h) {
						if b%2 == slot {
							im.block(h, right, b)
						}
					}
					h.Type = frame.Failed
					im.conn.TrySend(h, nil)
				}).end()
			}
			for range 3 {
				a, took := l.infer()
				if took != 0 || len(a.Recomputed) > 0 {
					t.Errorf("%s: took %v: %+v", name, took, a)
				}
				// Of a last block that only the highest slice has, the parity is as good.
				seen, of := map[[2]int]bool{}, map[int]bool{}
				for _, d := range a.Decoded {
					at := [2]int{d.Layer, d.Slice}
					if seen[at] {
						t.Errorf("%s: decoded %+v", name, a.Decoded)
					}
					seen[at], of[d.Worker] = true, true
				}
				if !of[0] || !of[1] {
					t.Errorf("%s: decoded %+v", name, a.Decoded)
				}
			}
		})
	}
}

// What a worker sends beside the point of its blocks is dropped or costs that
// block, and no answer is wrong.
func TestImpostorOfBlocks(t *testing.T) {
	for _, c := range []struct {
		name   string
		honest bool // all blocks come too, so nothing is decoded
		answer func(im *impostor, h frame.Header, right []float32)
	}{
		{"blocks that there are not", true, func(im *impostor, h frame.Header, right []float32) {
			for _, nth := range []uint32{uint32(im.blocks(h)), 1 << 31, math.MaxUint32} {
				h.Nth = nth
				im.send(h, garbage(len(right)/im.blocks(h)))
			}
			for b := range im.blocks(h) {
				im.block(h, right, b)
			}
		}},
		{"every block twice, backwards", true, func(im *impostor, h frame.Header, right []float32) {
			for b := im.blocks(h) - 1; b >= 0; b-- {
				im.block(h, right, b)
				h.Nth = uint32(b)
				im.send(h, garbage(len(right)/im.blocks(h)))
			}
		}},
		{"after the last", true, func(im *impostor, h frame.Header, right []float32) {
			for b := range im.blocks(h) {
				im.block(h, right, b)
			}
			h.Type = frame.Failed
			im.conn.TrySend(h, nil)
		}},
		{"the whole slice as a block", false, func(im *impostor, h frame.Header, right []float32) { im.send(h, append(right, 0)) }},
		{"one block is too short", false, func(im *impostor, h frame.Header, right []float32) {
			im.send(h, right[:0])
			for b := range im.blocks(h) {
				im.block(h, right, b)
			}
		}},
		{"some blocks, then failed, then the rest", false, func(im *impostor, h frame.Header, right []float32) {
			im.block(h, right, 0)
			failed := h
			failed.Type = frame.Failed
			im.conn.TrySend(failed, nil)
			for b := 1; b < im.blocks(h); b++ {
				im.block(h, garbage(len(right)), b)
			}
		}},
		{"blocks of another slice", false, func(im *impostor, h frame.Header, right []float32) {
			for s := range im.p.plan.N() {
				if other := h; uint32(s) != h.Slice {
					other.Slice = uint32(s)
					for b := range im.blocks(other) {
						other.Nth = uint32(b)
						im.send(other, garbage(len(right)/im.blocks(h)))
					}
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"dense", "conv"} {
				for liar := range 3 {
					inLab(t, inBlocks(t, name, 2, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
						l.start(liar)
						defer l.impostor(liar, c.answer).end()
						for range 3 {
							a, took := l.infer()
							if len(a.Recomputed) > 0 || took > 100*time.Millisecond || c.honest != (len(a.Decoded) == 0) && l.dataLayers(liar) > 0 {
								t.Errorf("%s, w%d lies: took %v: %+v", name, liar+1, took, a)
							}
						}
					})
				}
			}
		})
	}
}

// A worker that answers nothing is sent three requests, and no more until it has
// answered those it was sent.
func TestLaggingWorkerIsLeftOut(t *testing.T) {
	for _, answer := range []frame.Type{frame.Result, frame.Failed} {
		inLab(t, inBlocks(t, "dense", 2, 1), coordinator.Config{Grace: -1}, func(t *testing.T, l *lab) {
			l.start(0)
			asked := 0
			var waiting []func()
			silent := true
			im := l.impostor(0, func(im *impostor, h frame.Header, right []float32) {
				reply := func() {
					for b := range im.blocks(h) {
						im.block(h, right, b)
					}
				}
				if answer == frame.Failed {
					h.Type = frame.Failed
					reply = func() { im.conn.TrySend(h, nil) }
				}
				if asked++; silent {
					waiting = append(waiting, reply)
					return
				}
				reply()
			})
			defer im.end()
			// Else it is not sent what is done before it could be.
			l.delay(time.Millisecond, 1, 2)
			for range 20 {
				if _, took := l.infer(); took != 2*time.Millisecond {
					t.Errorf("took %v", took)
				}
			}
			if asked != 3 {
				t.Fatalf("%v: asked %d times without an answer", answer, asked)
			}
			silent = false
			for _, reply := range waiting {
				reply()
			}
			time.Sleep(time.Millisecond)
			for range 20 {
				l.infer()
			}
			if want := 3 + 20*len(l.plan.Layers); asked != want {
				t.Errorf("%v: asked %d times, want %d", answer, asked, want)
			}
		})
	}
}

// A worker that is now on time and now late is waited for ever more seldom.
func TestWorkerThatIsNowLate(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.infer()
		graces := 0
		for request := range 100 {
			slow := time.Second
			if request%3 > 0 {
				slow = each / 2
			}
			l.delay(slow, 0)
			if _, took := l.infer(); took > 2*each {
				graces++
			}
			time.Sleep(time.Second)
		}
		if graces > 12 {
			t.Errorf("waited %d times in 100 requests", graces)
		}
	})
}
