package plan

import (
	"strings"
	"testing"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// quantisedDense is one MatMulInteger of weights [cols,64] of that type, zero point 0
// or, of uint8, 7.
func quantisedDense(t *testing.T, typ tensor.DType, cols int) *graph.Graph {
	t.Helper()
	zero := tensor.New(typ)
	if typ == tensor.Uint8 {
		zero.Data[0] = 7
	}
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Uint8, Shape: tensor.Shape{1, cols}}}},
		Outputs:   []string{"y"},
		Nodes:     []*graph.Node{{Name: "m", Op: "MatMulInteger", Inputs: []string{"x", "w", "", "z"}, Outputs: []string{"y"}}},
		Constants: map[string]*tensor.Tensor{"w": tensor.New(typ, cols, 64), "z": zero},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

// The types of a parity slice are those that docs/parity.md tells, on both sides of
// each limit.
func TestTypesOfIntegerParity(t *testing.T) {
	for _, c := range []struct {
		typ     tensor.DType
		cols    int
		k, r    int
		cover   string
		weights string
	}{
		{tensor.Int8, 50_000, 4, 1, Parity, "int8, parity int16"},
		{tensor.Int8, 16_448, 4, 2, Parity, "int8, parity int16"},
		{tensor.Int8, 16_449, 4, 2, Parity, "int8, parity int16, its sums int64"},
		{tensor.Int8, 4_112, 4, 3, Parity, "int8, parity int16"},
		{tensor.Int8, 4_113, 4, 3, Parity, "int8, parity int16, its sums int64"},
		{tensor.Uint8, 8_256, 4, 2, Parity, "uint8, parity int16"},
		{tensor.Uint8, 8_257, 4, 2, Parity, "uint8, parity int16, its sums int64"},
		{tensor.Uint8, 33_025, 4, 2, Parity, "uint8, parity int16, its sums int64"},
		{tensor.Uint8, 33_026, 4, 2, Replicate, "uint8"},
		{tensor.Int8, 100, 8, 3, Parity, "int8, parity int16"},
		{tensor.Uint8, 100, 6, 3, Parity, "uint8, parity int16"},
		{tensor.Uint8, 100, 7, 3, Parity, "uint8, parity int32"},
		{tensor.Int8, 100, 5, 4, Parity, "int8, parity int16"},
		{tensor.Int8, 100, 6, 4, Parity, "int8, parity int32"},
	} {
		p, err := New(quantisedDense(t, c.typ, c.cols), Options{Data: c.k, Parity: c.r})
		if err != nil {
			t.Fatal(err)
		}
		l := &p.Layers[0]
		if l.Cover != c.cover || l.weightTypes() != c.weights {
			t.Errorf("%v of %d, %d+%d: %s, %s; want %s, %s", c.typ, c.cols, c.k, c.r, l.Cover, l.weightTypes(), c.cover, c.weights)
		}
	}
	opt := Options{Data: 4, Parity: 2, Layers: []Setting{{Node: "m", Redundancy: Parity}}}
	if _, err := New(quantisedDense(t, tensor.Int8, 33_026), opt); err == nil || !strings.Contains(err.Error(), "33025") {
		t.Errorf("rows too long for two parities: %v", err)
	}
}

// Bytes are planned and reported as such.
func TestReportOfIntegers(t *testing.T) {
	g := quantisedDense(t, tensor.Int8, 100)
	p, err := New(g, Options{Data: 4, Parity: 1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Report(g, Devices{GFLOPS: 1, LinkMbps: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := r.Layers[0]
	if l.Wire != "uint8" || l.Weights != "int8, parity int16" || l.Sent != 5*101 || l.Returned != 5*16*4 || l.Density != 0 {
		t.Errorf("%+v", l)
	}
	if got := [2]int64{l.Slices[0].MemoryBytes, l.Slices[4].MemoryBytes}; got != [2]int64{1600, 3200} {
		t.Errorf("slices hold %v bytes", got)
	}
}
