package engine_test

import (
	"runtime"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
)

// TestBands computes large maps in bands: same bits, without memory for all maps.
func TestBands(t *testing.T) {
	r := random(t)
	const channels, size = 100, 112 // the last band has fewer channels
	window := graph.Attrs{"kernel_shape": []int64{3, 3}, "strides": []int64{2, 2}, "pads": []int64{1, 1, 1, 1}}
	depthwise := graph.Attrs{"group": int64(channels), "strides": []int64{2, 2}, "pads": []int64{1, 1, 1, 1}}
	for _, test := range []struct {
		name  string
		build func(b *builder, x string) string
	}{
		{"depthwise", func(b *builder, x string) string {
			wide := b.node("Relu", nil, b.node("Conv", nil, x, b.weights(channels, 3, 1, 1), b.weights(channels)))
			return b.node("Relu", nil, b.node("Conv", depthwise, wide, b.weights(channels, 1, 3, 3), b.weights(channels)))
		}},
		{"pool", func(b *builder, x string) string {
			return b.node("MaxPool", window, b.node("Conv", nil, x, b.weights(channels, 3, 1, 1)))
		}},
		{"average into a concatenation", func(b *builder, x string) string {
			narrow := b.node("AveragePool", window, b.node("Conv", nil, x, b.weights(channels, 3, 1, 1)))
			return b.node("Concat", graph.Attrs{"axis": int64(1)}, narrow, b.node("MaxPool", window, x))
		}},
		{"one set of weights for two", func(b *builder, x string) string {
			w := b.weights(channels, 3, 1, 1)
			one := b.node("MaxPool", window, b.node("Conv", nil, x, w))
			return b.node("Add", nil, one, b.node("MaxPool", window, b.node("Conv", nil, b.node("Relu", nil, x), w)))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBuilder(r)
			g := b.graph(t, test.build(b, b.input(1, 3, size, size)))
			in := inputs(r, g)
			want := nodeByNode(t, g, in)
			p := compile(t, g, engine.Options{Consume: true})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s := p.NewSession()
			runtime.ReadMemStats(&after)
			out, err := s.Run(t.Context(), nil, in)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "in bands", out, want)
			if took := after.TotalAlloc - before.TotalAlloc; took > 4*channels*size*size {
				t.Errorf("a session takes %d bytes: all maps are in memory", took)
			}
			if len(g.Constants) > 0 {
				t.Errorf("%d constants are left after they were packed", len(g.Constants))
			}
		})
	}
}
