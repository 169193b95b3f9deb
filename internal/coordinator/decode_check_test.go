//go:build check

package coordinator_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
)

// This is TestEveryPattern and TestEveryModel without a network: every result of a
// layer is computed once, by its slice, and then for every set of workers that may
// be lost the coordinator makes the layer's output of what the others gave. So there
// is time for all k ≤ 8, all r ≤ 3, copies, and all sets.

// cells is how many cells a map of a model's layer gives in each direction, at
// most: its input is a corner of the true one. Tiles, which lie apart for every map,
// are of the first maps only.
const (
	cells    = 9
	someMaps = 16
)

// copySets is how many sets of lost workers are tried where copies cover a model's
// layer, of up to 3^k. Random layers have all, and where a code covers, models too.
const copySets = 4

func TestDecodeModels(t *testing.T) {
	for _, file := range modelFiles(t) {
		for _, integers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s integers=%t", filepath.Base(file), integers), func(t *testing.T) {
				t.Parallel()
				r := random(t)
				g := simplified(t, file)
				in := randomInputs(r, g)
				if integers {
					g = quantise(t, g, in)
				}
				var all tally
				for _, layer := range layersIn(t, g, in) {
					for _, split := range kinds[1:] {
						some := math.MaxInt
						if split == plan.Spatial {
							some = someMaps
						}
						v := newVerdict(t, corner(t, layer, cells, some))
						for _, opt := range ways(8, 3) {
							opt.Split = split
							all.add(v.everySet(t, r, opt, copySets))
						}
					}
				}
				all.log(t)
			})
		}
	}
}

func TestDecodeRandom(t *testing.T) {
	for _, m := range manners {
		for _, integers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v integers=%t", m, integers), func(t *testing.T) {
				t.Parallel()
				r := random(t)
				var all tally
				for _, opt := range ways(8, 3) {
					opt.Split = m.split
					for range opt.Workers() {
						opt.Speeds = append(opt.Speeds, 1+r.Float64())
					}
					dims := 3
					if integers {
						dims = 2 // as the engine has them
					}
					g := randomLayer(r, m, opt.Data, dims)
					in := []*tensor.Tensor{normal(r, g.Inputs[0].Shape...)}
					if integers {
						g = quantise(t, g, in)
					}
					all.add(newVerdict(t, layersIn(t, g, in)[0]).everySet(t, r, opt, math.MaxInt))
				}
				all.log(t)
			})
		}
	}
}

// tally counts sets of lost workers: all that codes cover, and of those that copies
// cover what was tried and what there is.
type tally struct{ sets, copies, ofCopies, decoded int }

func (n *tally) add(other tally) {
	n.sets += other.sets
	n.copies += other.copies
	n.ofCopies += other.ofCopies
	n.decoded += other.decoded
}

func (n *tally) log(t *testing.T) {
	t.Helper()
	t.Logf("all %d sets of lost workers that codes cover, %d slices decoded; %d of %d that copies cover", n.sets, n.decoded, n.copies, n.ofCopies)
}

// verdict is one layer alone, what it gives for an input, and what a plan makes of
// it.
type verdict struct {
	alone
	linear   engine.Linear
	weights  []byte
	x        []byte // its whole input,
	zero     int32  // whose zero point this is
	want     []byte // W·x, before anything follows it
	absolute []float32

	made        map[part]*engine.Slice
	bounds, sum []float32 // scratch
}

// part is some rows of a layer; slices of different plans have many in common.
type part struct {
	linear  engine.Linear
	weights *byte
}

// Linear implements engine.Remote: it computes the layer in one piece.
func (v *verdict) Linear(_ context.Context, _ int, dst, x []byte, zero int32) error {
	v.zero = zero
	v.x = aligned(x)
	if err := runSlice(v.linear, v.weights, dst, v.input()); err != nil {
		return err
	}
	v.want = aligned(dst)
	return nil
}

// input is x as a slice takes it.
func (v *verdict) input() []byte {
	in := tensor.Alloc(v.linear.InputBytes())
	if copy(in, v.x) < len(in) {
		in[len(in)-1] = byte(v.zero)
	}
	return in
}

// aligned is a copy.
func aligned(x []byte) []byte {
	y := tensor.Alloc(len(x))
	copy(y, x)
	return y
}

func runSlice(l engine.Linear, weights, dst, x []byte) error {
	s, err := engine.NewSlice(l, weights)
	if err == nil {
		s.Run(nil, dst, x, nil)
	}
	return err
}

// newVerdict has the layer computed, and compares that with a local run.
func newVerdict(t *testing.T, a alone) *verdict {
	t.Helper()
	l, w, err := engine.LinearOf(a.g, a.g.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	v := &verdict{alone: a, linear: l, weights: w, made: map[part]*engine.Slice{}}
	program, err := engine.Compile(a.g, engine.Options{Split: map[string]int{a.g.Nodes[0].Name: 0}})
	if err != nil {
		t.Fatal(err)
	}
	in := []*tensor.Tensor{a.in}
	out, err := program.NewSession().Run(t.Context(), v, in)
	if err != nil {
		t.Fatal(err)
	}
	if !same(out, (&prepared{g: a.g}).local(t, in)) {
		t.Errorf("%s: other bits than a local run's", a.g.Nodes[0].Name)
	}
	if l.Integers == (engine.Integers{}) {
		sum := tensor.Alloc(l.OutputBytes())
		if err := runSlice(l, magnitudes(w), sum, magnitudes(v.x)); err != nil {
			t.Fatal(err)
		}
		v.absolute = tensor.View[float32](sum)
	}
	return v
}

func magnitudes(x []byte) []byte {
	y := aligned(x)
	for i, v := range tensor.View[float32](y) {
		tensor.View[float32](y)[i] = float32(math.Abs(float64(v)))
	}
	return y
}

// everySet cuts the layer, if it can be cut so, and tries every set of workers whose
// loss leaves results enough, where copies cover it at most so many: all results are
// there but for theirs.
func (v *verdict) everySet(t *testing.T, r *rand.Rand, opt plan.Options, copies int) (n tally) {
	t.Helper()
	p, err := plan.New(v.g, opt)
	if err != nil {
		return n // not in this manner
	}
	layer := &p.Layers[0]
	trial, err := coordinator.NewTrial(v.g, p)
	if err != nil {
		t.Fatal(err)
	}
	given := v.results(t, layer, trial)
	all := coveredOnce(layer)
	tried := all
	if layer.Cover == plan.Replicate {
		if copies < len(all) {
			tried = slices.Concat(all[:1], pick(r, all[1:], copies-1))
		}
		n.copies, n.ofCopies = len(tried), len(all)
	} else {
		n.sets = len(all)
	}
	name := fmt.Sprintf("%s %v %s k=%d r=%d %s", layer.Linear.Op, v.in.Shape, layer.Kind, opt.Data, opt.Parity, layer.Cover)
	// Before, the output is no numbers.
	out, nothing := tensor.Alloc(len(v.want)), bytes.Repeat([]byte{0xff}, len(v.want))
	var whole []byte // partial sums with all workers
	order := r.Perm(layer.N())
	for _, dead := range tried {
		copy(out, nothing)
		decoded, err := trial.Output(out, given, order, dead)
		if err != nil {
			t.Fatalf("%s, %v lost: %v", name, dead, err)
		}
		switch {
		case layer.Sums() && v.absolute != nil && whole == nil:
			whole = slices.Clone(out)
			truth := &truth{want: tensor.View[float32](v.want), absolute: v.absolute}
			truth.sums(t, layer, tensor.View[float32](out))
		case layer.Sums() && v.absolute != nil:
			if string(out) != string(whole) {
				t.Errorf("%s, %v lost: other bits than with all workers", name, dead)
			}
		case len(decoded) == 0 || v.absolute == nil:
			if string(out) != string(v.want) {
				t.Errorf("%s, %v lost, %v decoded: other bits than a local run's", name, dead, decoded)
			}
		default:
			if err := v.within(layer, tensor.View[float32](out), dead); err != nil {
				t.Errorf("%s, %v lost: %v", name, dead, err)
			}
		}
		lost := 0
		for _, there := range results(layer, dead)[:layer.K()] {
			if !there {
				lost++
			}
		}
		if len(decoded) != lost {
			t.Errorf("%s, %v lost: decoded %v", name, dead, decoded)
		}
		n.decoded += lost
		if t.Failed() {
			t.FailNow()
		}
	}
	return n
}

// results computes what each slice gives, block by block of the weights that its
// worker holds.
func (v *verdict) results(t *testing.T, layer *plan.Layer, trial *coordinator.Trial) (all [][]byte) {
	t.Helper()
	held, err := shard.Patches(layer, 0, v.weights, 0, layer.Linear.Rows)
	if err != nil {
		t.Fatal(err)
	}
	for u, in := range trial.Inputs(v.x, v.zero) {
		y := tensor.Alloc(layer.Slice(u).OutputBytes())
		weights := held[u].Rows
		for b := range layer.Blocks(u) {
			block := layer.Block(u, b)
			own := layer.BlockWeights(u, b, weights)
			key := part{block, &own[0]}
			if v.made[key] == nil {
				if v.made[key], err = engine.NewSlice(block, own); err != nil {
					t.Fatal(err)
				}
			}
			v.made[key].Run(nil, layer.Kept(u, b, y), in, nil)
		}
		all = append(all, y)
	}
	return all
}

// within says where decoded elements lie beyond the code's bound of a local run's, or
// others are not equal to them: see withinBound. The bound is linear in the absolute
// sums of the data slices.
func (v *verdict) within(layer *plan.Layer, got []float32, dead []int) error {
	code, err := parity.New(layer.K(), layer.R())
	if err != nil {
		return err
	}
	var s parity.Solution
	if err := code.Solve(&s, results(layer, dead)); err != nil {
		return err
	}
	v.bounds = slices.Grow(v.bounds[:0], len(got))[:len(got)]
	clear(v.bounds)
	short := 1 + max(0.0001, float64(layer.Linear.Cols)/(1<<23)) // see withinBound
	share, one := make([]float32, layer.K()), make([]float64, layer.K())
	for at, lost := range s.Lost {
		for j := range one {
			one[j] = short
			share[j] = float32(s.Bound(at, layer.Linear.Cols, one) * (1 + 1.0/(1<<18))) // covers the roundings of adding up
			one[j] = 0
		}
		for b := range layer.MostBlocks() {
			for p := range layer.Pieces(b) {
				bound := pieceOf(layer, lost, b, p, v.bounds)
				v.sum = slices.Grow(v.sum[:0], len(bound))[:len(bound)]
				clear(v.sum)
				for j, c := range share {
					t := pieceOf(layer, j, b, p, v.absolute)
					size := min(len(t), len(bound)) // the rest is padding
					kernel.AddScaled(v.sum[:size], t[:size], c)
				}
				for i, most := range v.sum {
					bound[i] = max(bound[i], most) // tiles overlap: either may have been placed last
				}
			}
		}
	}
	want := tensor.View[float32](v.want)
	for i, bound := range v.bounds {
		if off := math.Abs(float64(got[i]) - float64(want[i])); !(off <= float64(bound)) {
			return fmt.Errorf("element %d is %v, a local run's %v: %g off, bound %g", i, got[i], want[i], off, bound)
		}
	}
	return nil
}

var (
	setsMu   sync.Mutex // guards setsOnce
	setsOnce = map[string][][]int{}
)

// coveredOnce is covered, remembered.
func coveredOnce(layer *plan.Layer) [][]int {
	setsMu.Lock()
	defer setsMu.Unlock()
	key := fmt.Sprint(layer.Workers, layer.K(), layer.R())
	if setsOnce[key] == nil {
		setsOnce[key] = covered(layer)
	}
	return setsOnce[key]
}

// pick draws n different ones.
func pick(r *rand.Rand, from [][]int, n int) (some [][]int) {
	for _, i := range r.Perm(len(from))[:n] {
		some = append(some, from[i])
	}
	return some
}

// corner is a layer with so much less of its input that maps give at most so many
// cells in each direction, but for padding, and at most so many maps.
func corner(t *testing.T, a alone, most, some int) alone {
	t.Helper()
	n := *a.g.Nodes[0]
	l, _, err := engine.LinearOf(a.g, &n)
	if err != nil || l.Op != "Conv" {
		return a
	}
	weights := a.g.Constants[n.Inputs[1]]
	if n.Op == "QLinearConv" {
		weights = a.g.Constants[n.Inputs[3]]
	}
	small := *a.g
	shape := slices.Clone(a.in.Shape)
	dims := len(shape) - 2
	one := slices.Repeat([]int{1}, dims)
	strides, dilations := n.Attrs.Ints("strides", one), n.Attrs.Ints("dilations", one)
	for d := range dims {
		reach := (weights.Shape[2+d]-1)*dilations[d] + 1
		shape[2+d] = min(shape[2+d], (most-1)*strides[d]+reach)
	}
	depthwise := l.Conv.K() == l.Conv.Taps() && l.Rows == shape[1]
	if l.Rows > some && (l.Conv.Groups == 1 || depthwise) {
		small.Constants = firstRows(a.g.Constants, l.Rows, some)
		if depthwise {
			shape[1] = some
			n.Attrs = maps.Clone(n.Attrs)
			n.Attrs["group"] = int64(some)
		}
	}
	small.Nodes = []*graph.Node{&n}
	small.Inputs = []graph.Value{{Name: "x", Info: graph.Info{Type: a.in.Type, Shape: shape}}}
	if err := small.Prepare(); err != nil {
		t.Fatal(err)
	}
	x := tensor.New(a.in.Type, shape...)
	cut(x.Data, a.in.Data, shape, a.in.Shape, a.in.Type.Size())
	return alone{&small, x, 0}
}

// firstRows are constants of so many rows cut to the first, and all others.
func firstRows(constants map[string]*tensor.Tensor, of, rows int) map[string]*tensor.Tensor {
	all := map[string]*tensor.Tensor{}
	for name, c := range constants {
		all[name] = c
		if len(c.Shape) > 0 && c.Shape[0] == of {
			less := tensor.New(c.Type, append([]int{rows}, c.Shape[1:]...)...)
			copy(less.Data, c.Data)
			all[name] = less
		}
	}
	return all
}

// cut copies the corner of src that dst has.
func cut(dst, src []byte, to, from tensor.Shape, size int) {
	if len(to) == 0 {
		copy(dst, src[:size])
		return
	}
	d, s := to[1:].Elements()*size, from[1:].Elements()*size
	for i := range to[0] {
		cut(dst[i*d:(i+1)*d], src[i*s:(i+1)*s], to[1:], from[1:], size)
	}
}
