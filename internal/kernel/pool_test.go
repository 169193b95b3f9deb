package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// countJob counts how often each block runs.
type countJob struct{ runs []atomic.Int32 }

func (j *countJob) runBlock(i int) { j.runs[i].Add(1) }

func TestPoolRunsEveryBlockOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		p := NewPool(threads)
		if p.Threads() != threads {
			t.Errorf("%d threads, want %d", p.Threads(), threads)
		}
		for blocks := range 40 {
			j := &countJob{runs: make([]atomic.Int32, blocks)}
			p.run(j, blocks)
			for i := range j.runs {
				if n := j.runs[i].Load(); n != 1 {
					t.Fatalf("%d threads: block %d of %d ran %d times", threads, i, blocks, n)
				}
			}
		}
		p.Close()
		p.Close()
	}
}

func TestPoolSizes(t *testing.T) {
	var none *Pool
	if none.Threads() != 1 {
		t.Errorf("a nil pool has %d threads", none.Threads())
	}
	none.Close()
	p := NewPool(0)
	defer p.Close()
	if p.Threads() != runtime.GOMAXPROCS(0) {
		t.Errorf("%d threads, want GOMAXPROCS", p.Threads())
	}
}

// TestPoolShared has several goroutines compute on one pool at the same time.
func TestPoolShared(t *testing.T) {
	r := newRand(t)
	p := NewPool(3)
	defer p.Close()
	g := conv2D(6, 20, 20, 15, 3, 1, 1)
	w, x := uniform(r, 300*400), uniform(r, 6*20*20)
	conv, packed := NewConv(g, w, g.M), Pack(w, 300, 400)
	wantConv, wantGemm, wantGemv := chainConv(g, w, x, g.M), chainGemm(w, x, 300, 400, 3), laneGemv(w, x, 300, 400)
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			a, b, c := make([]float32, len(wantConv)), make([]float32, len(wantGemm)), make([]float32, len(wantGemv))
			for range rounds {
				conv.Run(p, a, x, After{}, nil)
				packed.Gemm(p, b, x, 3, After{}, nil)
				Gemv(p, c, w, x, 300, 400)
				for i, pair := range [][2][]float32{{a, wantConv}, {b, wantGemm}, {c, wantGemv}} {
					for at := range pair[0] {
						if !sameBits(pair[0][at], pair[1][at]) {
							t.Errorf("kernel %d, element %d: %v, want %v", i, at, pair[0][at], pair[1][at])
							return
						}
					}
				}
			}
		})
	}
	all.Wait()
}

// TestNoAllocations runs every kernel warm, on one thread and on two.
func TestNoAllocations(t *testing.T) {
	r := newRand(t)
	g := conv2D(4, 12, 12, 9, 3, 2, 1)
	d := conv2D(4, 12, 12, 4, 3, 2, 1)
	d.Groups = 4
	w, x, dst := uniform(r, 70*40), uniform(r, 4*144), make([]float32, 4000)
	conv, direct, packed := NewConv(g, w, g.M), NewConv(d, w, d.M), Pack(w, 70, 40)
	window := Pool2D{N: 1, C: 4, H: 12, W: 12, KH: 2, KW: 2, StrideH: 2, StrideW: 2, DilationH: 1, DilationW: 1, OH: 6, OW: 6}
	most, mean := NewMaxPool(window), NewAveragePool(window)
	stop := new(atomic.Bool)
	for _, p := range pools(t) {
		for name, f := range map[string]func(){
			"conv":      func() { conv.Run(p, dst, x, After{}, stop) },
			"depthwise": func() { direct.Run(p, dst, x, After{}, stop) },
			"gemm":      func() { packed.Gemm(p, dst, x, 7, After{}, stop) },
			"gemv":      func() { Gemv(p, dst, w, x, 70, 40) },
			"bias":      func() { BiasAct(p, dst, x, 1, 4, 144, 0, 6) },
			"maxpool":   func() { most.Run(p, dst, x) },
			"avgpool":   func() { mean.Run(p, dst, x) },
			"mean":      func() { GlobalAveragePool(p, dst, x, 4, 144) },
			"softmax":   func() { Softmax(p, dst, x, 1, 144, 4) },
			"lrn":       func() { LRN(dst, x, 1, 4, 144, 5, 1e-4, 0.75, 1) },
			"norm":      func() { BatchNorm(dst, x, w, w, w, x[:4], 1, 4, 144, 2) },
		} {
			f()
			if n := testing.AllocsPerRun(10, f); n != 0 {
				t.Errorf("%s on %d threads allocates %v times a call", name, p.Threads(), n)
			}
		}
	}
}
