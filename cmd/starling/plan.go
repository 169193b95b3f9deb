package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"starling/internal/onnx"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/wire"
)

// planFlags are what run and plan say of a plan, by flags or in a file.
type planFlags struct {
	options plan.Options
	wire    string
	file    string
	dims    map[string]int
}

func (p *planFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&p.options.Data, "workers", 4, "data slices K of each layer, a worker each; 0 runs the model without workers")
	f.IntVar(&p.options.Parity, "parity", 1, "parity workers R beside them: so many may be lost")
	f.StringVar(&p.options.Redundancy, "redundancy", "parity", "parity; replicate: 2·K workers, two hold each slice; or none: a lost worker's requests are lost")
	f.StringVar(&p.options.Split, "split", "auto", "what to split: auto, dense layers by output or input, convolutions by channel, filter or spatial; or the model by stage, one after the other")
	f.StringVar(&p.wire, "wire", "f32", "inputs and results on the link: f32; f16 or int8, a half or a quarter of the bytes, rounded")
	f.Float64SliceVar(&p.options.Speeds, "speeds", nil, "`NUMBERS` for all workers relative to each other, as 1,1,0.5,2,1: slices are in proportion (default: all alike)")
	f.Lookup("speeds").DefValue = "" // else help says "default []"
	f.StringVar(&p.file, "plan", "", "YAML `FILE` that says all this, and what is otherwise for single layers")
	addDims(cmd, &p.dims)
}

// check finds what is wrong with the flags, and reads the file.
func (p *planFlags) check(cmd *cobra.Command) error {
	if p.file != "" {
		for _, name := range []string{"workers", "parity", "redundancy", "split", "wire", "speeds"} {
			if cmd.Flags().Changed(name) {
				return usage(cmd, "--%s and --plan contradict each other: say it in %s", name, p.file)
			}
		}
		var err error
		p.options, err = plan.ReadFile(p.file)
		return withHint(err)
	}
	o := &p.options
	var err error
	if o.Wire, err = wire.Parse(p.wire); err != nil {
		return usage(cmd, "--wire %q: there are %s", p.wire, strings.Join(wire.Names(), ", "))
	}
	switch o.Redundancy {
	case plan.Parity:
	case plan.None, plan.Replicate:
		if cmd.Flags().Changed("parity") && o.Parity > 0 {
			return usage(cmd, "--redundancy %s and --parity %d contradict each other", o.Redundancy, o.Parity)
		}
		o.Parity = 0
	default:
		return usage(cmd, "--redundancy %q: there are %s, %s and %s", o.Redundancy, plan.Parity, plan.Replicate, plan.None)
	}
	switch {
	case o.Data < 0:
		return usage(cmd, "--workers %d is negative", o.Data)
	case o.Data > parity.MaxData:
		return usage(cmd, "--workers %d is more than %d", o.Data, parity.MaxData)
	case o.Parity < 0 || o.Parity > parity.MaxParity:
		return usage(cmd, "--parity %d: there are 0 to %d", o.Parity, parity.MaxParity)
	case o.Parity > 1 && o.Data > parity.MaxCoded:
		return usage(cmd, "--parity %d covers up to %d workers, not %d", o.Parity, parity.MaxCoded, o.Data)
	case !slices.Contains(plan.Kinds, o.Split):
		return usage(cmd, "--split %q: there are %s", o.Split, strings.Join(plan.Kinds, ", "))
	case o.Speeds != nil && len(o.Speeds) != o.Workers():
		return usage(cmd, "--speeds has %d numbers for %d workers", len(o.Speeds), o.Workers())
	}
	return nil
}

func planCommand() *cobra.Command {
	var (
		p      planFlags
		d      plan.Devices
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "plan MODEL",
		Short: "Show who would hold what, and what it costs and covers",
		Long: `Shows which worker would hold which part of a model, memory, traffic, a predicted
latency, and which losses of devices the plan covers. Nothing is started.

The prediction is for comparing plans: computing takes FLOPs/(--gflops · speed),
or as long as reading the weights does at --read-gbs, if that is longer; a split layer takes one round trip, the bytes of all its slices over the
coordinator's link, and its slowest data slice's computing.`,
		Args: exactly(1, "MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(cmd); err != nil {
				return err
			}
			if !(d.GFLOPS > 0 && d.ReadGBs > 0 && d.LinkMbps > 0 && d.RTT >= 0) {
				return usage(cmd, "--gflops, --read-gbs and --link-mbps must be above 0, --rtt not below")
			}
			g, err := onnx.Decode(args[0], p.dims)
			if err != nil {
				return withHint(err)
			}
			if err := rewrite.Simplify(g); err != nil {
				return err
			}
			made, err := plan.New(g, p.options)
			if err != nil {
				return err
			}
			r, err := made.Report(g, d)
			if err != nil {
				return err
			}
			r.Model = strings.TrimSuffix(filepath.Base(args[0]), ".onnx")
			if asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return printPlan(os.Stdout, r)
		},
	}
	cmd.Flags().SortFlags = false
	p.add(cmd)
	cmd.Flags().Float64Var(&d.GFLOPS, "gflops", 10, "10^9 operations a second of a device of speed 1, 2 a multiply-add")
	cmd.Flags().Float64Var(&d.ReadGBs, "read-gbs", 3, "10^9 bytes of weights a second that such a device reads")
	cmd.Flags().Float64Var(&d.LinkMbps, "link-mbps", 60, "Mbit/s of the coordinator's link")
	cmd.Flags().DurationVar(&d.RTT, "rtt", 3*time.Millisecond, "from the coordinator to a worker and back")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printPlan(w io.Writer, r *plan.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "layer\tsplit\tcover\twire\tweights\tdata slices\tfurther\tkB sent\tkB returned\tms\tweights ≠ 0")
	for _, l := range r.Layers {
		density := ""
		if l.Density < 0.9 {
			density = fmt.Sprintf("%.0f %%", 100*l.Density)
			if l.ParityDensity > 0 {
				density += fmt.Sprintf(", parity %.0f %%", 100*l.ParityDensity)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%.2f\t%s\n", l.Name, l.Split, l.Cover, l.Wire, l.Weights,
			heldBy(l.Slices[:l.Data]), heldBy(l.Slices[l.Data:]), float64(l.Sent)/1e3, float64(l.Returned)/1e3, l.LatencyMs, density)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "worker\tspeed\tslices\tMB held\tMFLOP\tkB sent\tkB returned")
	for _, w := range r.Workers {
		fmt.Fprintf(t, "%s\t%g\t%d\t%.2f\t%.2f\t%.1f\t%.1f\n", w.ID, w.Speed, w.Slices, float64(w.MemoryBytes)/1e6, float64(w.FLOPs)/1e6, float64(w.Sent)/1e3, float64(w.Returned)/1e3)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(t, "coordinator\t%.2f MFLOP of layers that are not split\n", float64(r.LocalFLOPs)/1e6)
	fmt.Fprintf(t, "a request\t%.1f kB sent, %.1f kB returned, %.1f ms; one device alone %.1f ms with %.1f MB of weights\n",
		float64(r.Sent)/1e3, float64(r.Returned)/1e3, r.LatencyMs, r.AloneMs, float64(r.ModelBytes)/1e6)
	fmt.Fprintf(t, "coverage\t%.1f %% of the losses of one device, %.1f %% of two\n", 100*r.Single, 100*r.Double)
	if len(r.Uncovered) > 0 {
		fmt.Fprintf(t, "not covered\t%s\n", strings.Join(r.Uncovered, ", "))
	}
	if len(r.OpenPairs) > 0 {
		fmt.Fprintf(t, "pairs not covered\t%s\n", pairs(r.OpenPairs))
	}
	if !r.Pays {
		fmt.Fprintf(t, "advice\t%s\n", advice(r))
	}
	return t.Flush()
}

// advice says why a split does not pay.
func advice(r *plan.Report) string {
	if len(r.Layers) == 0 {
		return "nothing is split"
	}
	return "splitting does not pay in time: one device alone is faster, if it has the memory; what it buys is memory and cover"
}

// shownHolders is how many names a table cell holds.
const shownHolders = 8

func heldBy(slices []plan.SliceReport) string {
	var names []string
	for _, s := range slices {
		names = append(names, s.Worker)
	}
	return shorten(names)
}

func pairs(list [][2]string) string {
	var names []string
	for _, p := range list {
		names = append(names, p[0]+"+"+p[1])
	}
	return shorten(names)
}

func shorten(names []string) string {
	if more := len(names) - shownHolders; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shownHolders], " "), more)
	}
	return strings.Join(names, " ")
}
