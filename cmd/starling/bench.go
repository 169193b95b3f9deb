package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"starling/internal/experiment"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/onnx"
	"starling/internal/zoo"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this device, its link, a flock on it",
		Args:  exactly(0, ""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchEngineCommand(), benchLinkCommand(), benchEchoCommand(), benchFlockCommand())
	return cmd
}

func benchEngineCommand() *cobra.Command {
	var c experiment.EngineConfig
	var asJSON bool
	var beside string
	cmd := &cobra.Command{
		Use:   "engine [MODEL…]",
		Short: "Measure how fast this device computes models, node by node",
		Long: `Measures what this device's CPU and memory can do at most, runs each model on random
input in this process, and prints what the whole and each node take, beside what the
peaks allow.

MODEL is an ONNX file or a classical network with random weights: ` + strings.Join(zoo.Names(), ", ") + `.
Without one, it is squeezenet1.1.

With --beside it takes turns with another program that computes the same models, and
prints a table of the ratios; see docs/benchmarks.md.`,
		RunE: func(cmd *cobra.Command, models []string) error {
			switch {
			case c.Threads < 1 || c.Threads > kernel.MaxThreads:
				return usage(cmd, "--threads %d is not from 1 to %d", c.Threads, kernel.MaxThreads)
			case beside != "" && strings.TrimSpace(beside) == "":
				return usage(cmd, "--beside is empty")
			case c.Requests < 1 || c.Requests > maxBenchRequests:
				return usage(cmd, "--requests %d is not from 1 to %d", c.Requests, maxBenchRequests)
			}
			if len(models) == 0 {
				models = []string{"squeezenet1.1"}
			}
			result := struct {
				Machine experiment.Machine         `json:"machine"`
				Models  []*experiment.EngineReport `json:"models,omitempty"`
				Ratios  []*experiment.Ratio        `json:"ratios,omitempty"`
			}{Machine: experiment.MeasureMachine(c.Threads)}
			m := &result.Machine
			if !asJSON && beside == "" {
				fmt.Printf("This machine, %s on %d of its threads: %.1f GFLOP/s, reads %.1f GB/s\n", m.Level, m.Threads, m.GFLOPS, m.GBS)
			}
			for _, name := range models {
				g, err := benchModel(name, c.Seed)
				if err != nil {
					return err
				}
				if beside != "" {
					r, err := experiment.Beside(cmd.Context(), strings.TrimSuffix(filepath.Base(name), ".onnx"), g, c, strings.Fields(beside))
					if err != nil {
						return err
					}
					result.Ratios = append(result.Ratios, r)
					continue
				}
				r, err := experiment.Engine(cmd.Context(), name, g, *m, c)
				if err != nil {
					return err
				}
				if asJSON {
					result.Models = append(result.Models, r)
					continue
				}
				fmt.Println()
				if err := r.Print(os.Stdout); err != nil {
					return err
				}
			}
			switch {
			case !asJSON && beside != "":
				return experiment.PrintRatios(os.Stdout, *m, result.Ratios)
			case !asJSON:
				return nil
			}
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(result)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&c.Threads, "threads", 1, "threads that compute")
	f.IntVar(&c.Requests, "requests", 20, "number of requests measured, after one to warm up")
	f.StringVar(&beside, "beside", "", "`COMMAND` of a program to measure beside, in alternating rounds")
	f.Uint64Var(&c.Seed, "seed", 1, "of the random input, and of a network's weights")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// maxBenchRequests bounds what is kept of a measurement: 8 bytes a node and request.
const maxBenchRequests = 100_000

func benchModel(name string, seed uint64) (*graph.Graph, error) {
	if slices.Contains(zoo.Names(), name) {
		return zoo.Build(name, seed)
	}
	g, err := onnx.Decode(name, nil)
	if err != nil {
		return nil, withHint(err)
	}
	return g, nil
}
