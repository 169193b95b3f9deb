package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"starling/internal/coordinator"
	"starling/internal/experiment"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/zoo"
)

func benchLinkCommand() *cobra.Command {
	var requests int
	var sizes, workers []int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "link",
		Short: "Measure round trips of the tensor link beside plain TCP",
		Long: `Sends frames of the tensor link to workers in another process, over loopback, and
back and, in turn, the same bytes over TCP behind a bare length: what the link's
checksums, heartbeats and queue cost, in time and in the coordinator's CPU.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if requests < 1 || requests > maxBenchRequests {
				return usage(cmd, "--requests %d is not from 1 to %d", requests, maxBenchRequests)
			}
			reports := []*experiment.LinkReport{}
			for _, kib := range sizes {
				if kib < 1 || kib > maxBenchKiB {
					return usage(cmd, "--kib %d is not from 1 to %d", kib, maxBenchKiB)
				}
			}
			for _, n := range workers {
				if n < 1 || n > experiment.MaxEchoes {
					return usage(cmd, "--workers %d is not from 1 to %d", n, experiment.MaxEchoes)
				}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			progress := startProgress()
			defer progress.stop()
			for _, n := range workers {
				for _, kib := range sizes {
					progress.now(func() string { return fmt.Sprintf("%d round trips of %d KiB to %d workers", requests, kib, n) })
					r, err := experiment.Link(cmd.Context(), experiment.LinkConfig{
						Bytes: kib << 10, Requests: requests, Workers: n, Command: []string{self, "bench", "echo"},
					})
					if err != nil {
						return err
					}
					reports = append(reports, r)
				}
			}
			progress.stop()
			if asJSON {
				return printIndented(reports)
			}
			return experiment.PrintLinks(os.Stdout, reports)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntSliceVar(&sizes, "kib", []int{4, 64, 1024}, "sizes in KiB, each way")
	f.IntSliceVar(&workers, "workers", []int{1, 5}, "numbers of workers")
	f.IntVar(&requests, "requests", 1000, "round trips of each size")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// benchEchoCommand is the other process of bench link.
func benchEchoCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "echo LINK PLAIN WORKERS",
		Hidden: true,
		Args:   exactly(3, "LINK PLAIN WORKERS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[2])
			if err != nil || n < 1 || n > experiment.MaxEchoes {
				return usage(cmd, "%q workers are not from 1 to %d", args[2], experiment.MaxEchoes)
			}
			return experiment.Echo(cmd.Context(), args[0], args[1], n)
		},
	}
}

// maxBenchKiB is the link's largest payload.
const maxBenchKiB = 256 << 10

func benchFlockCommand() *cobra.Command {
	var p planFlags
	var c experiment.FlockConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "flock [MODEL]",
		Short: "Measure what splitting, redundancy and a dead worker cost on this machine",
		Long: `Runs a model on random input in one process, over workers without redundancy, with
it, and with it while a worker is dead: in turn, in this one run. All workers are
processes on this machine and share its cores, so this shows what splitting, coding
and a failure cost, and not what further devices gain.

MODEL is an ONNX file or a classical network with random weights: ` + strings.Join(zoo.Names(), ", ") + `.
Without one, it is alexnet.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(cmd); err != nil {
				return err
			}
			c.Flock.Plan = p.options
			switch {
			case p.options.Workers() == 0:
				return usage(cmd, "--workers 0: there is nothing to compare")
			case c.Requests < 1 || c.Requests > maxBenchRequests:
				return usage(cmd, "--requests %d is not from 1 to %d", c.Requests, maxBenchRequests)
			case c.Flock.Concurrency < 1 || c.Flock.Concurrency > coordinator.MaxConcurrency:
				return usage(cmd, "--concurrency %d is not from 1 to %d", c.Flock.Concurrency, coordinator.MaxConcurrency)
			case c.Flock.Threads < 1 || c.Flock.Threads > kernel.MaxThreads:
				return usage(cmd, "--threads %d is not from 1 to %d", c.Flock.Threads, kernel.MaxThreads)
			}
			model := "alexnet"
			if len(args) > 0 {
				model = args[0]
			}
			if err := makeStateDir(c.Flock.StateDir); err != nil {
				return err
			}
			progress := startProgress()
			defer progress.stop()
			progress.now(func() string { return "running " + model })
			reports, err := experiment.Flock(cmd.Context(), func() (*graph.Graph, error) { return benchModel(model, c.Seed) }, c)
			progress.stop()
			if err != nil {
				return withStateHint(err)
			}
			if asJSON {
				return printIndented(reports)
			}
			fmt.Printf("%s, random input, all processes on this machine's %d threads, in turn:\n\n", model, runtime.NumCPU())
			return experiment.PrintFlock(os.Stdout, reports)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	p.add(cmd)
	f.IntVar(&c.Requests, "requests", 100, "number of requests of each run")
	f.IntVar(&c.Flock.Concurrency, "concurrency", 1, "requests in flight at once")
	f.IntVar(&c.Flock.Threads, "threads", 1, "threads that compute, of each worker and of the coordinator")
	f.Uint64Var(&c.Seed, "seed", 1, "of the random input, and of a network's weights")
	f.StringVar(&c.Flock.StateDir, "state", stateDir(), "folder in which the workers' parts are kept for the run")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printIndented(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
