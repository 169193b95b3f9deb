package experiment

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"

	"starling/internal/engine"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/kernel"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// EngineConfig says how Engine measures.
type EngineConfig struct {
	Threads  int
	Requests int
	Seed     uint64 // of the random inputs
}

// Machine is what this machine can do at most.
type Machine struct {
	Level   string  `json:"level"` // instruction set, see kernel.Level
	Threads int     `json:"threads"`
	GFLOPS  float64 `json:"gflops"` // fused multiply-adds in registers, two operations each
	GBS     float64 `json:"gbs"`    // reading memory
}

// EngineReport is what a model took in this process.
type EngineReport struct {
	Model    string        `json:"model"`
	Requests int           `json:"requests"`
	Latency  flock.Latency `json:"latency_ms"`
	GFLOP    float64       `json:"gflop"`  // a request
	GFLOPS   float64       `json:"gflops"` // at the median
	Share    float64       `json:"share"`  // of the machine's peak
	Nodes    []NodeReport  `json:"nodes"`
}

// NodeReport is one node of the graph that runs. A node is bound by computing or
// by memory, whichever the machine's peaks need longer for.
type NodeReport struct {
	Name   string  `json:"name"`
	Op     string  `json:"op"`
	Output []int   `json:"output"` // shape
	MS     float64 `json:"ms"`     // the median
	Of     float64 `json:"of"`     // its part of the request
	MFLOP  float64 `json:"mflop"`
	MB     float64 `json:"mb"`    // read and written at least: inputs, weights, output
	Bound  string  `json:"bound"` // compute or memory
	Share  float64 `json:"share"` // of the peak that binds it; above 1 if caches hold what it reads
}

// MeasureMachine measures the peaks: the best of several runs of some
// milliseconds each.
func MeasureMachine(threads int) Machine {
	p := kernel.NewPool(threads)
	defer p.Close()
	m := Machine{Level: kernel.Level(), Threads: threads}
	data := make([]byte, 64<<20)
	for i := range data {
		data[i] = 1 // else all pages may be the one of zeros
	}
	clear(data)
	defer debug.FreeOSMemory() // before models come
	for range 12 {
		m.GFLOPS = max(m.GFLOPS, peakGFLOPS(p))
		start := time.Now()
		kernel.PeakRead(p, data)
		m.GBS = max(m.GBS, float64(len(data))/float64(time.Since(start)))
	}
	return m
}

func peakGFLOPS(p *kernel.Pool) float64 {
	best := 0.0
	for range 4 {
		start := time.Now()
		flops := kernel.PeakFlops(p, 1<<22)
		best = max(best, float64(flops)/float64(time.Since(start)))
	}
	return best
}

// Engine runs a model on random inputs and measures the whole and each node. It
// simplifies g and takes its constants.
func Engine(ctx context.Context, name string, g *graph.Graph, m Machine, c EngineConfig) (*EngineReport, error) {
	if err := rewrite.Simplify(g); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	pool := kernel.NewPool(c.Threads)
	defer pool.Close()
	p, err := engine.Compile(g, engine.Options{Pool: pool, Consume: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	inputs := randomInputs(g, c.Seed)
	s := p.NewSession()
	if _, err := s.Run(ctx, nil, inputs); err != nil { // warm
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.Timed()
	whole := make([]time.Duration, c.Requests)
	byNode := map[string][]time.Duration{}
	for i := range whole {
		start := time.Now()
		if _, err := s.Run(ctx, nil, inputs); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		whole[i] = time.Since(start)
		for _, t := range s.Times() {
			byNode[t.Node] = append(byNode[t.Node], t.Took)
		}
	}
	r := &EngineReport{Model: name, Requests: c.Requests, Latency: flock.LatencyOf(whole)}
	for _, n := range g.Nodes {
		took := byNode[n.Name]
		if took == nil {
			continue
		}
		r.Nodes = append(r.Nodes, m.node(g, n, median(took)))
		r.GFLOP += float64(graph.FLOPs(g, n)) / 1e9
	}
	for i := range r.Nodes {
		r.Nodes[i].Of = r.Nodes[i].MS / r.Latency.P50
	}
	r.GFLOPS = r.GFLOP / r.Latency.P50 * 1e3
	r.Share = r.GFLOPS / m.GFLOPS
	return r, nil
}

func randomInputs(g *graph.Graph, seed uint64) []*tensor.Tensor {
	inputs := make([]*tensor.Tensor, len(g.Inputs))
	for i, in := range g.Inputs {
		inputs[i] = input.Random(in, seed, 0)
	}
	return inputs
}

// median sorts values.
func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func (m Machine) node(g *graph.Graph, n *graph.Node, took time.Duration) NodeReport {
	bytes := 0
	for _, name := range append(slices.Clone(n.Inputs), n.Outputs...) {
		if info, ok := g.Infos[name]; ok {
			bytes += info.Shape.Elements() * info.Type.Size()
		}
	}
	flops := float64(graph.FLOPs(g, n))
	r := NodeReport{
		Name: n.Name, Op: n.Op, Output: g.Infos[n.Outputs[0]].Shape,
		MS: float64(took) / 1e6, MFLOP: flops / 1e6, MB: float64(bytes) / 1e6,
	}
	compute, memory := flops/m.GFLOPS, float64(bytes)/m.GBS // nanoseconds at the peaks
	r.Bound, r.Share = "memory", memory/float64(took)
	if compute > memory {
		r.Bound, r.Share = "compute", compute/float64(took)
	}
	return r
}

// Print writes the report as a table.
func (r *EngineReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s: median %.3f ms of %d requests (longest %.3f), %.3f GFLOP, %.1f GFLOP/s, %.0f %% of the peak\n\n",
		r.Model, r.Latency.P50, r.Requests, r.Latency.Max, r.GFLOP, r.GFLOPS, 100*r.Share)
	fmt.Fprintln(t, "ms\t%\tGFLOP/s\tGB/s\tof peak\t\tnode\t")
	kinds := map[string]float64{}
	for _, n := range r.Nodes {
		fmt.Fprintf(t, "%.3f\t%.1f\t%s\t%.1f\t%.0f %%\t%s\t  %s %s %v\t\n", n.MS, 100*n.Of, speed(n.MFLOP, n.MS), n.MB/n.MS, 100*n.Share, n.Bound, n.Op, n.Name, tensor.Shape(n.Output))
		kinds[n.Op] += n.Of
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ops := slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		if kinds[a] > kinds[b] {
			return -1
		}
		return 1
	})
	fmt.Fprintf(w, "\nby operator:")
	for _, op := range ops {
		fmt.Fprintf(w, " %s %.1f %%", op, 100*kinds[op])
	}
	_, err := fmt.Fprintln(w)
	return err
}

// speed is GFLOP/s, or nothing for a node without work to count.
func speed(mflop, ms float64) string {
	if mflop == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", mflop/ms)
}
