//go:build check

package flock_test

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/zoo"
)

// TestORT compares what a coded flock answers, whole and with a dead worker,
// with ONNX Runtime on random inputs: scores, a Softmax at the end taken off.
// scoreBound derives by how much they may differ.
func TestORT(t *testing.T) {
	models := append([]string{"zoo alexnet", "zoo vgg16"}, trained...)
	for _, name := range models {
		t.Run(name, func(t *testing.T) {
			runtime := os.Getenv("STARLING_ORT")
			if runtime == "" {
				t.Skip("no ONNX Runtime: STARLING_ORT is not set (tools/check/all sets it)")
			}
			load := func() *graph.Graph {
				if network, ok := zooName(name); ok {
					g, err := zoo.Build(network, 1)
					if err != nil {
						t.Fatal(err)
					}
					return g
				}
				return decode(t, name)
			}
			g := withoutSoftmax(t, load())
			request := seeded(g, 1)[0]
			want := reference(t, runtime, g, request[0])
			bound := 2 * scoreBound(g, want) // either may be off by it
			ways := []way{local, without(2)}
			if name == "zoo vgg16" {
				ways = ways[1:] // 553 MB of weights, and as much again in each copy
			}
			for i, w := range ways {
				limit := bound
				if len(w.faults) > 0 {
					limit = (1 + decodedShares) * bound / 2
				}
				if i > 0 {
					g = withoutSoftmax(t, load())
				}
				worst := 0.0
				f := startOn(t, g, flock.Config{Plan: plan.Options{Data: w.workers, Parity: w.parity}}, w.faults...)
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: 3, Input: func(int) ([]*tensor.Tensor, error) { return request, nil },
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
						got := a.Outputs[0].F32()
						if len(got) != len(want) {
							t.Fatalf("%d scores, ONNX Runtime has %d", len(got), len(want))
						}
						for c, v := range got {
							worst = max(worst, math.Abs(float64(v)-float64(want[c])))
						}
						if argmax(got) != argmax(want) {
							t.Errorf("%s: class %d, ONNX Runtime says %d", w.name, argmax(got), argmax(want))
						}
					},
				})
				if err != nil || r.Lost > 0 {
					t.Fatalf("%s: %+v, %v", w.name, r, err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				t.Logf("%-22s off by %.3g at most, bound %.3g", w.name, worst, limit)
				if !(worst <= limit) {
					t.Errorf("%s: off by %g, bound %g", w.name, worst, limit)
				}
			}
		})
	}
}

func zooName(name string) (string, bool) {
	const prefix = "zoo "
	if len(name) > len(prefix) && name[:len(prefix)] == prefix {
		return name[len(prefix):], true
	}
	return "", false
}

// withoutSoftmax takes a Softmax off the end of a prepared graph.
func withoutSoftmax(t *testing.T, g *graph.Graph) *graph.Graph {
	t.Helper()
	for i, n := range g.Nodes {
		if n.Op == "Softmax" && n.Outputs[0] == g.Outputs[0] {
			g.Outputs[0] = n.Inputs[0]
			g.Nodes = append(g.Nodes[:i:i], g.Nodes[i+1:]...)
			if err := g.Prepare(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	return g
}

// decodedShares is how many times scoreBound a run with a decoded slice in every
// layer may be off by: see there.
const decodedShares = 5

// scoreBound is by how much a program may be off that adds up a graph's scores y
// in float32, in whatever order.
//
// u = 2^-24, γ_n = n·u/(1−n·u). A sum of K products has K roundings in any order,
// so it is off by at most γ_K·Σ|w||x| (Higham, "Accuracy and Stability", section
// 3.1). Two things make that a bound relative to the values themselves: Σ|w||x|
// is about √K times a sum whose terms have signs of their own, but roundings have
// too, and K of them add up to about √K·u rather than K·u (Higham and Mary 2019,
// "A new approach to probabilistic rounding error analysis"). Together: γ_K times
// the values of the layer. ReLU, pooling and concatenation pass errors on without
// making them larger in relation to the largest value, and so do layers in the
// mean; so at the end the layers' shares add up: Σ_l γ_{K_l}·max|y|.
//
// A decoded slice is off by at most (2γ_K + 2γ_{k−1} + u)·Σ_i|W_i||x| over k
// slices (package parity). Over k = 4 slices the sum has 4·K terms, of which √4
// times as much is left in the mean: (2K + 7)·√4 in place of K, which is at most
// decodedShares·K from K = 14 on.
func scoreBound(g *graph.Graph, y []float32) float64 {
	const u = 1.0 / (1 << 24)
	largest, shares := 0.0, 0.0
	for _, v := range y {
		largest = max(largest, math.Abs(float64(v)))
	}
	for _, n := range g.Nodes {
		k := float64(roundings(g, n))
		shares += k * u / (1 - k*u)
	}
	return shares * largest
}

// roundings counts those of one output element of a node, in any order of
// summation.
func roundings(g *graph.Graph, n *graph.Node) int {
	in, out := g.Infos[n.Input(0)].Shape, g.Infos[n.Outputs[0]].Shape
	switch n.Op {
	case "Conv": // and a bias
		w := g.Infos[n.Input(1)].Shape
		return w.Elements()/w[0] + 1
	case "Gemm", "MatMul":
		return in[len(in)-1] + 1
	case "GlobalAveragePool", "AveragePool":
		k := n.Attrs.Ints("kernel_shape", []int{1, in.Elements() / out.Elements()})
		return k[0]*k[len(k)-1] + 1
	case "LRN": // squares, their sum, scale, offset, a power (of 8 at most), a quotient
		return 2*n.Attrs.Int("size", 1) + 12
	case "BatchNormalization": // sum, root (of 2 at most), quotient, product, sum; folded: two more
		return 8
	case "Add", "Mul", "DequantizeLinear":
		return 2
	}
	return 0 // moves or selects
}

// reference runs a graph in ONNX Runtime.
func reference(t *testing.T, runtime string, g *graph.Graph, x *tensor.Tensor) []float32 {
	t.Helper()
	dir := t.TempDir()
	model, in, out := filepath.Join(dir, "model.onnx"), filepath.Join(dir, "in.npy"), filepath.Join(dir, "out.npy")
	f, err := os.Create(model)
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Encode(f, g); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := input.CreateNPY(in, 1, graph.Info{Type: x.Type, Shape: x.Shape})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(0, x); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", filepath.Join("..", "..", "tools", "check", "ort.mjs"), model, "--input", in, "--output", out)
	cmd.Env = append(os.Environ(), "STARLING_ORT="+runtime)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ONNX Runtime: %v\n%s", err, said)
	}
	if err := os.Remove(model); err != nil {
		t.Fatal(err)
	}
	answer, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	y, err := input.ReadNPY(answer, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return y.F32()
}
