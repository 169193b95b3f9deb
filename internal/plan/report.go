package plan

import (
	"errors"
	"fmt"
	"time"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// Devices say how fast a flock is, for Report. All devices compute alike, but
// for Options.Speeds, and the coordinator is one of them.
type Devices struct {
	GFLOPS   float64       // of a device of speed 1: 10^9 operations a second, 2 a multiply-add
	ReadGBs  float64       // 10^9 bytes of weights a second that such a device reads
	LinkMbps float64       // of the coordinator's link, through which everything goes
	RTT      time.Duration // from the coordinator to a worker and back
}

// Report is what a plan would mean. Its JSON is documented in docs/cli.md.
type Report struct {
	Model      string         `json:"model"`
	Data       int            `json:"data"`   // k
	Parity     int            `json:"parity"` // r
	Workers    []WorkerReport `json:"workers"`
	Layers     []LayerReport  `json:"layers"`
	Sent       int64          `json:"sent_bytes"`     // to all workers, a request
	Returned   int64          `json:"returned_bytes"` // from all workers
	LocalFLOPs int64          `json:"local_flops"`    // at the coordinator
	LatencyMs  float64        `json:"latency_ms"`     // predicted
	AloneMs    float64        `json:"alone_ms"`       // of one device without workers
	ModelBytes int64          `json:"model_bytes"`    // of weights: what one device alone must hold
	Pays       bool           `json:"pays"`           // the split is faster than one device
	Single     float64        `json:"coverage_single"`
	Double     float64        `json:"coverage_double"`
	Uncovered  []string       `json:"uncovered"`       // devices whose loss alone is not covered
	OpenPairs  [][2]string    `json:"uncovered_pairs"` // none of which holds an uncovered device
}

// WorkerReport is one device's share.
type WorkerReport struct {
	ID          string  `json:"id"`
	Speed       float64 `json:"speed"`
	Slices      int     `json:"slices"`
	MemoryBytes int64   `json:"memory_bytes"` // of weights
	FLOPs       int64   `json:"flops"`        // a request
	Sent        int64   `json:"sent_bytes"`   // to it
	Returned    int64   `json:"returned_bytes"`
}

// LayerReport is one split layer, or a stage.
type LayerReport struct {
	Name      string        `json:"name"`
	Nodes     []string      `json:"nodes"`
	Split     string        `json:"split"`
	Cover     string        `json:"cover"`
	Wire      string        `json:"wire"`    // how inputs and results travel; of integers the type of inputs
	Weights   string        `json:"weights"` // their type, and that of a parity's where it is another
	Data      int           `json:"data"`
	Slices    []SliceReport `json:"slices"`
	Sent      int64         `json:"sent_bytes"`
	Returned  int64         `json:"returned_bytes"`
	LatencyMs float64       `json:"latency_ms"`
	// Density is the share of weights that are not 0, of the data slices and of
	// the first parity slice; the latter is 0 where there is none.
	Density       float64 `json:"density"`
	ParityDensity float64 `json:"parity_density"`
}

// SliceReport is one slice of a layer.
type SliceReport struct {
	Worker      string `json:"worker"`
	Role        string `json:"role"` // data, parity or copy
	Of          int    `json:"of"`   // which data slice, or which parity, from 0
	MemoryBytes int64  `json:"memory_bytes"`
}

// WorkerName is what users call worker w.
func WorkerName(w int) string { return fmt.Sprintf("w%d", w+1) }

// Report says what the plan of a prepared graph means on such devices, by a
// model that is meant for comparing plans:
//
//   - computing takes FLOPs/(GFLOPS·speed), or as long as reading the weights
//     does, bytes/(ReadGBs·speed), if that is longer, as in dense layers of one
//     input;
//   - a split layer, or a stage, takes one round trip, the bytes of all its slices
//     over the coordinator's link one after the other, and the slowest data slice's
//     computing;
//   - everything else is computed by the coordinator, at speed 1.
func (p *Plan) Report(g *graph.Graph, d Devices) (*Report, error) {
	r := &Report{Data: p.Data, Parity: p.Parity, Workers: []WorkerReport{}, Layers: []LayerReport{}, Uncovered: []string{}, OpenPairs: [][2]string{}}
	for w := range p.Workers {
		r.Workers = append(r.Workers, WorkerReport{ID: WorkerName(w), Speed: p.speeds[w]})
	}
	split := map[string]bool{}
	nodes := p.Nodes(g)
	for _, layer := range nodes {
		for _, n := range layer {
			split[n.Name] = true
		}
	}
	for _, c := range g.Constants {
		r.ModelBytes += int64(len(c.Data))
	}
	for _, n := range g.Nodes {
		alone := d.compute(graph.FLOPs(g, n), weightBytes(g, n), 1)
		r.AloneMs += alone
		if !split[n.Name] {
			r.LocalFLOPs += graph.FLOPs(g, n)
			r.LatencyMs += alone
		}
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		layer := LayerReport{Name: l.Node, Nodes: l.Nodes, Split: l.Kind, Cover: l.Cover, Wire: l.Wire.String(), Weights: l.weightTypes(), Data: l.K()}
		if input := l.inputType(); input != tensor.Float32 {
			layer.Wire = input.String()
		}
		var err error
		if layer.Density, layer.ParityDensity, err = l.density(g, nodes[i]); err != nil {
			return nil, err
		}
		slowest := 0.0
		for s, worker := range l.Workers {
			work := l.Work(s)
			sr := SliceReport{Worker: WorkerName(worker), Role: "data", Of: s % l.Results(), MemoryBytes: int64(work.WeightBytes)}
			switch {
			case s >= l.Results():
				sr.Role = "copy"
			case s >= l.K():
				sr.Role, sr.Of = "parity", s-l.K()
			}
			layer.Slices = append(layer.Slices, sr)
			if s < l.K() {
				slowest = max(slowest, d.slice(l, s, g, nodes[i], p.speeds[worker]))
			}
			in, out := int64(l.WireBytes(work.InputBytes, work.InputLen)), int64(l.WireBytes(work.OutputBytes, work.OutputLen))
			layer.Sent, layer.Returned = layer.Sent+in, layer.Returned+out
			to := &r.Workers[worker]
			to.Slices++
			to.MemoryBytes += sr.MemoryBytes
			to.FLOPs += work.FLOPs
			to.Sent, to.Returned = to.Sent+in, to.Returned+out
		}
		layer.LatencyMs = slowest + float64(d.RTT)/float64(time.Millisecond) + 8*float64(layer.Sent+layer.Returned)/(d.LinkMbps*1e3)
		r.LatencyMs += layer.LatencyMs
		r.Sent, r.Returned = r.Sent+layer.Sent, r.Returned+layer.Returned
		r.Layers = append(r.Layers, layer)
	}
	r.Pays = r.LatencyMs < r.AloneMs
	p.reportCoverage(r)
	return r, nil
}

// compute is how many milliseconds that takes at a speed.
func (d *Devices) compute(flops, weights int64, speed float64) float64 {
	return max(float64(flops)/d.GFLOPS, float64(weights)/d.ReadGBs) / (1e6 * speed)
}

// slice is how many milliseconds slice s takes at a speed: of a stage as long as
// its nodes do.
func (d *Devices) slice(l *Layer, s int, g *graph.Graph, nodes []*graph.Node, speed float64) (ms float64) {
	if l.Run == nil {
		work := l.Work(s)
		return d.compute(work.FLOPs, int64(work.WeightBytes), speed)
	}
	for _, n := range nodes {
		ms += d.compute(graph.FLOPs(g, n), weightBytes(g, n), speed)
	}
	return ms
}

// weightBytes are those of the constants that a node multiplies with.
func weightBytes(g *graph.Graph, n *graph.Node) (bytes int64) {
	if graph.FLOPs(g, n) == 0 {
		return 0
	}
	for _, name := range n.Inputs {
		if c := g.Constants[name]; c != nil {
			bytes += int64(len(c.Data))
		}
	}
	return bytes
}

func (p *Plan) reportCoverage(r *Report) {
	c := p.Coverage()
	r.Single, r.Double = c.Single, c.Double
	open := make([]bool, p.Workers)
	for _, w := range c.Uncovered {
		open[w] = true
		r.Uncovered = append(r.Uncovered, WorkerName(w))
	}
	for _, pair := range c.Pairs {
		if !open[pair[0]] && !open[pair[1]] {
			r.OpenPairs = append(r.OpenPairs, [2]string{WorkerName(pair[0]), WorkerName(pair[1])})
		}
	}
}

// density is the share of weights that are not 0: of the layer's, and of its
// parity slice, which has one where any data slice has; of a stage that of all its
// layers that could be split.
func (l *Layer) density(g *graph.Graph, nodes []*graph.Node) (data, parity float64, err error) {
	if l.Run != nil {
		count, n := 0.0, 0.0
		for _, node := range nodes {
			one, w, err := engine.LinearOf(g, node)
			if errors.Is(err, engine.ErrNotLinear) {
				continue
			}
			if err != nil {
				return 0, 0, err
			}
			size := one.Rows * one.Cols
			count += float64(size) * (&Layer{Linear: one}).share(size, w)
			n += float64(size)
		}
		if n == 0 {
			return 1, 0, nil
		}
		return count / n, 0, nil
	}
	_, w, err := engine.LinearOf(g, nodes...)
	if err != nil {
		return 0, 0, err
	}
	data = l.share(l.Linear.Rows*l.Linear.Cols, w)
	switch {
	case l.R() == 0:
		return data, 0, nil
	case l.Cover == Inputs:
		return data, data, nil
	}
	slices := make([][]byte, l.K())
	for j := range slices {
		slices[j] = l.Weights(j, w)
	}
	return data, l.share(l.coded.Rows*l.coded.Cols, slices...), nil
}

// share is the share of n places at which a weight of any slice is not 0.
func (l *Layer) share(n int, slices ...[]byte) float64 {
	some := make([]bool, n)
	for _, w := range slices {
		if !isInteger(l.Linear) {
			for i, v := range tensor.View[float32](w) {
				some[i] = some[i] || v != 0
			}
			continue
		}
		row := make([]int32, l.Linear.Cols)
		for first := 0; first < len(w)/l.Linear.WeightSize(); first += len(row) {
			l.Linear.Integers.Values(row, w, first)
			for i, v := range row {
				some[first+i] = some[first+i] || v != 0
			}
		}
	}
	count := 0
	for _, is := range some {
		if is {
			count++
		}
	}
	return float64(count) / float64(n)
}
