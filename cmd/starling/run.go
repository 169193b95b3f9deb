package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// runOptions are the flags of starling run.
type runOptions struct {
	flockFlags
	requests  int
	seed      uint64
	mean, std []float32
	resize    string
	labels    string
	outputs   []string
	restart   bool
	json      bool
}

func runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run MODEL [INPUT…]",
		Short: "Run a model over worker processes on this machine, once",
		Long: `Starts k+r worker processes and a coordinator here, runs the inputs, prints the
answers and what happened, and ends it all.

INPUT is a file: .npy, .pb, .png, .jpg, .wav, or IDX (.gz, -ubyte), with a range if
wanted (digits.gz:0-99). A file may hold many inputs; they are run in turn. A
model of several inputs takes NAME=FILE for each. Without INPUT one seeded
uniform random tensor in [-1, 1) is used.`,
		Example: `  starling run squeezenet.onnx photo.jpg --labels imagenet.txt
  starling run lenet.onnx t10k-images-idx3-ubyte.gz --mean 0 --std 255 --concurrency 4
  starling run alexnet.onnx --requests 100 --fault kill:w2@50`,
		Args: atLeast(1, "MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1:]) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.flockFlags.add(cmd, 1)
	f.IntVar(&o.requests, "requests", 0, "number of requests; the inputs are repeated in turn (default: each input once)")
	f.BoolVar(&o.restart, "rolling-restart", false, "restart all workers meanwhile, one after the other")
	f.Uint64Var(&o.seed, "seed", 1, "of the random input")
	f.Float32SliceVar(&o.mean, "mean", nil, "`NUMBERS` for pictures and IDX, 0–255, one or one per channel (default: ImageNet's; 0 if grey)")
	f.Float32SliceVar(&o.std, "std", nil, "`NUMBERS` likewise (default: ImageNet's; 255 if grey)")
	f.Lookup("mean").DefValue, f.Lookup("std").DefValue = "", "" // else help says "default []"
	f.StringVar(&o.resize, "resize", "crop", "of pictures: crop or stretch")
	f.StringVar(&o.labels, "labels", "", "file with a label per line, for the answers")
	f.StringArrayVar(&o.outputs, "output", nil, "write the first output of all inputs to FILE.npy; NAME=FILE.npy another one; repeatable")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// check finds what is wrong with the flags alone.
func (o *runOptions) check(cmd *cobra.Command) error {
	if err := o.flockFlags.check(cmd); err != nil {
		return err
	}
	switch {
	case o.requests < 0:
		return usage(cmd, "--requests %d is negative", o.requests)
	case o.restart && o.config.Plan.Workers() == 0:
		return usage(cmd, "--workers 0 has no worker for --rolling-restart")
	}
	switch input.Resize(o.resize) {
	case input.Crop, input.Stretch:
	default:
		return usage(cmd, "--resize %q: there are %s and %s", o.resize, input.Crop, input.Stretch)
	}
	files := make(map[string]bool, len(o.outputs))
	for _, output := range o.outputs {
		_, path := splitOutput(output)
		switch path = filepath.Clean(path); {
		case filepath.Ext(path) != ".npy":
			return usage(cmd, "--output %s: the name of the file must end in .npy", output)
		case files[path]:
			return usage(cmd, "--output: %s is named twice", path)
		}
		files[path] = true
	}
	return nil
}

// splitOutput splits an --output, FILE or NAME=FILE; without it, name is "".
func splitOutput(s string) (name, path string) {
	if name, path, ok := strings.Cut(s, "="); ok {
		return name, path
	}
	return "", s
}

func (o *runOptions) run(cmd *cobra.Command, model string, args []string) (err error) {
	if err := o.check(cmd); err != nil {
		return err
	}
	progress := startProgress()
	defer progress.stop()
	progress.now(func() string { return "reading " + model })
	name, path := modelName(model)
	g, err := onnx.Decode(path, o.plan.dims)
	if err != nil {
		return withHint(err)
	}
	var labels []string
	if o.labels != "" {
		if labels, err = input.ReadLabels(o.labels); err != nil {
			return err
		}
		if n := g.Infos[g.Outputs[0]].Shape.Elements(); n != len(labels) {
			fmt.Fprintf(os.Stderr, "starling: %s has %d labels for %d classes: they may be those of other classes\n", o.labels, len(labels), n)
		}
	}
	requests, err := input.OpenRequests(args, g.Inputs, input.Options{Mean: o.mean, Std: o.std, Resize: input.Resize(o.resize)}, o.seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, requests.Close()) }()
	if o.requests == 0 {
		o.requests = requests.Count()
	}
	answers, err := newAnswers(g, min(requests.Count(), o.requests), o.outputs, labels)
	if err != nil {
		return err
	}
	defer answers.abort()
	workers := o.config.Plan.Workers() + o.config.Spares
	if workers > 0 {
		if err := makeStateDir(o.config.StateDir); err != nil {
			return err
		}
	}

	ctx := cmd.Context()
	if workers > 0 {
		progress.now(func() string { return fmt.Sprintf("cutting the model and starting %d workers", workers) })
	}
	f, err := flock.Start(ctx, g, o.config)
	if err != nil {
		return withStateHint(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var done atomic.Int64
	progress.now(func() string { return fmt.Sprintf("%d of %d requests", done.Load(), o.requests) })
	report, err := f.Drive(ctx, flock.Load{
		Requests: o.requests, Concurrency: o.config.Concurrency, Input: requests.Tensors, Restart: o.restart,
		Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
			done.Add(1)
			answers.take(i, a.Outputs)
		},
	})
	progress.stop()
	if err != nil {
		return err
	}
	report.Model = name
	if report.Lost == 0 {
		if err := answers.commit(); err != nil {
			return err
		}
	}
	if o.json {
		err = printJSON(os.Stdout, report, answers.first())
	} else {
		err = printReport(os.Stdout, f, report, answers, requests)
	}
	if err != nil {
		return err
	}
	if o.restart && report.Restarted < workers {
		fmt.Fprintf(os.Stderr, "starling: the requests were answered when %d of %d workers were restarted: raise --requests\n", report.Restarted, workers)
	}
	for _, fault := range f.Unstruck() {
		fmt.Fprintf(os.Stderr, "starling: fault %v did not strike: the last request was number %d\n", fault, o.requests)
	}
	if report.Lost > 0 {
		return fmt.Errorf("%d of %d requests lost, the first one: %w", report.Lost, report.Requests, report.FirstLoss)
	}
	return nil
}

// answers collects what people and files get of the outputs.
type answers struct {
	files  []answerFile
	labels []string
	inputs int             // different ones
	top    [][]input.Class // of the first inputs' first output; nil where it is no list of scores
	err    error           // the first of writing
}

type answerFile struct {
	output int
	npy    *input.NPYWriter
}

const (
	shownAnswers = 10
	shownClasses = 5
)

func newAnswers(g *graph.Graph, inputs int, files, labels []string) (a *answers, err error) {
	a = &answers{labels: labels, inputs: inputs, top: make([][]input.Class, min(inputs, shownAnswers))}
	defer func() {
		if err != nil {
			a.abort()
		}
	}()
	for _, file := range files {
		name, path := splitOutput(file)
		output := 0
		if name != "" {
			if output = slices.Index(g.Outputs, name); output < 0 {
				return a, fmt.Errorf("--output %s: the model has no output %q, it has %s", file, name, strings.Join(g.Outputs, ", "))
			}
		}
		w, err := input.CreateNPY(path, inputs, g.Infos[g.Outputs[output]])
		if err != nil {
			return a, err
		}
		a.files = append(a.files, answerFile{output, w})
	}
	return a, nil
}

// take sees the outputs of request i; only the first round through the inputs
// is kept.
func (a *answers) take(i int, outputs []*tensor.Tensor) {
	if i >= a.inputs {
		return
	}
	for _, f := range a.files {
		if err := f.npy.Write(i, outputs[f.output]); err != nil && a.err == nil {
			a.err = err
		}
	}
	if out := outputs[0]; i < len(a.top) && out.Type == tensor.Float32 {
		a.top[i] = input.Top(out.F32(), a.labels, shownClasses)
	}
}

// first is the answer to the first request.
func (a *answers) first() []input.Class { return a.top[0] }

func (a *answers) commit() error {
	if a.err != nil {
		return a.err
	}
	for len(a.files) > 0 {
		if err := a.files[0].npy.Commit(); err != nil {
			return err
		}
		a.files = a.files[1:]
	}
	return nil
}

// abort removes files that are not committed.
func (a *answers) abort() {
	for _, f := range a.files {
		f.npy.Abort()
	}
	a.files = nil
}

func printJSON(w io.Writer, report *flock.Report, top []input.Class) error {
	if top == nil {
		top = []input.Class{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		*flock.Report
		Top []input.Class `json:"top"`
	}{report, top})
}

func printReport(w io.Writer, f *flock.Flock, r *flock.Report, a *answers, requests *input.Requests) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, top := range a.top {
		if i < r.Requests && top != nil {
			fmt.Fprintf(t, "%s\t%s\n", visible(requests.Name(i)), classes(top))
		}
	}
	if hidden := a.inputs - len(a.top); hidden > 0 {
		fmt.Fprintf(t, "… and %d more\n", hidden)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(t, "%s\t%s\n", visible(r.Model), planned(f))
	fmt.Fprintf(t, "requests\t%d, answered %d, lost %d\n", r.Requests, r.Answered, r.Lost)
	if f.Plan.N() > 0 {
		fmt.Fprintf(t, "slices\t%d decoded, %d recomputed here, %d late, %d damaged\n", r.Decoded, r.Recomputed, r.Late, r.Wrong)
	}
	if r.Restarted > 0 {
		fmt.Fprintf(t, "restarted\t%d workers, one after the other\n", r.Restarted)
	}
	if h := r.Redundancy; h != nil {
		fmt.Fprintf(t, "redundancy\t%s\n", redundancy(h))
	}
	l := r.Latency
	fmt.Fprintf(t, "latency ms\tp50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n", l.P50, l.P90, l.P99, l.P999, l.Max)
	if len(r.Workers) > 0 {
		fmt.Fprintln(t)
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(t, "worker\tstate\tplace\tslices\tMB moved\tanswered\tlate\tms late p50\tp99\tdecoded for")
		for _, s := range r.Workers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.1f\t%d\t%d\t%s\t%s\t%d\n", s.ID, s.State, s.Place, s.Slices, float64(s.Bytes)/1e6,
				s.Answered, s.Late, lateness(s.Lateness.P50), lateness(s.Lateness.P99), s.DecodedFor)
		}
	}
	return t.Flush()
}

// lateness is one in milliseconds, for a table.
func lateness(ms float64) string {
	if ms < 0 {
		return "given up"
	}
	return fmt.Sprintf("%.1f", ms)
}

// redundancy says how many workers could still be lost, and how it healed.
func redundancy(h *flock.Redundancy) string {
	var text string
	switch {
	case h.Now < 0:
		text = fmt.Sprintf("none of %d: slices are missing", h.Planned)
	case h.Now < h.Planned:
		text = fmt.Sprintf("%d of %d more workers may be lost", h.Now, h.Planned)
	default:
		text = fmt.Sprintf("full: %d more may be lost", h.Now)
	}
	if h.Healed > 0 {
		text += fmt.Sprintf("; healed %d×, within %.0f ms", h.Healed, h.HealMs)
	}
	return text
}

func planned(f *flock.Flock) string {
	if f.Plan.N() == 0 {
		return "run here, without workers"
	}
	over := fmt.Sprintf("%d+%d", f.Plan.Data, f.Plan.Parity)
	if f.Plan.Workers > f.Plan.Data+f.Plan.Parity {
		over = fmt.Sprintf("2·%d", f.Plan.Data)
	}
	return fmt.Sprintf("%d layers split over %s workers", len(f.Plan.Layers), over)
}

// classes is a line as "7 seven 0.98, 1 one 0.01, …".
func classes(top []input.Class) string {
	var parts []string
	for _, c := range top {
		label := fmt.Sprint(c.Class)
		if c.Label != "" && c.Label != label {
			label += " " + visible(c.Label)
		}
		parts = append(parts, fmt.Sprintf("%s: %.4g", label, c.Score))
	}
	return strings.Join(parts, ", ")
}
