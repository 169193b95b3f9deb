package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"starling/internal/coordinator"
	"starling/internal/experiment"
	"starling/internal/graph"
	"starling/internal/parity"
	"starling/internal/wire"
)

func experimentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "experiment",
		Short: "Run what the project claims about faults, and print what came of it",
		Args:  exactly(0, ""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(experimentFaultsCommand(), experimentGatherCommand(), experimentSoakCommand())
	return cmd
}

// workersHere makes the folder in which workers on this machine keep their parts, and
// returns the command that starts one.
func workersHere(stateDir string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{self, "worker"}, makeStateDir(stateDir)
}

func experimentFaultsCommand() *cobra.Command {
	var c experiment.FaultsConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Make workers on this machine fail in every way, with every kind of redundancy",
		Long: `Runs the built-in digit network over worker processes on this machine while
clients ask without a pause, and makes a worker fail: uncoded, with one and two
parity workers, and with every worker twice. Every answer is compared with a local
run. It fails if a flock with redundancy lost a request or answered wrongly, or if a
way of recovering was never needed. See docs/faults.md.

Faults: ` + strings.Join(experiment.FaultNames(), "; ") + `.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "faults", c.Faults, experiment.FaultNames()); err != nil {
				return err
			}
			if err := oneOf(cmd, "policies", c.Policies, experiment.GatherPolicies()); err != nil {
				return err
			}
			switch {
			case c.Lasts < 100*time.Millisecond || c.Lasts > time.Hour:
				return usage(cmd, "--lasts %v is not from 100ms to 1h", c.Lasts)
			case c.Clients < 1 || c.Clients > coordinator.MaxConcurrency:
				return usage(cmd, "--clients %d is not from 1 to %d", c.Clients, coordinator.MaxConcurrency)
			}
			var err error
			if c.Command, err = workersHere(c.StateDir); err != nil {
				return err
			}
			progress := startProgress()
			defer progress.stop()
			c.Progress = func(fault, policy string) {
				progress.now(func() string { return fault + ", " + policy })
			}
			cells, err := experiment.Faults(cmd.Context(), c)
			progress.stop()
			if asJSON {
				err = errors.Join(err, printIndented(cells))
			} else {
				err = errors.Join(err, experiment.PrintFaults(os.Stdout, cells))
			}
			return withStateHint(err)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&c.Faults, "faults", nil, "`NAMES` of those to make (default: all)")
	f.StringSliceVar(&c.Policies, "policies", nil, "`NAMES` of those to compare: "+strings.Join(experiment.GatherPolicies(), ", ")+" (default: all)")
	f.DurationVar(&c.Lasts, "lasts", 2*time.Second, "how long a fault lasts")
	f.IntVar(&c.Clients, "clients", 2, "clients that ask at once")
	f.StringVar(&c.StateDir, "state", stateDir(), "folder in which the workers' parts are kept for the run")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// oneOf demands that all given names of a flag are known.
func oneOf(cmd *cobra.Command, flag string, given, known []string) error {
	for _, name := range given {
		if !slices.Contains(known, name) {
			return usage(cmd, "--%s %q: there are %s", flag, name, strings.Join(known, "; "))
		}
	}
	return nil
}

func experimentGatherCommand() *cobra.Command {
	var c experiment.GatherConfig
	var asJSON bool
	var encoding string
	cmd := &cobra.Command{
		Use:   "gather --lab FOLDER [MODEL]",
		Short: "Measure latency over a shared, lossy channel, by policy and scenario",
		Long: `Runs the dense layers of a model over four devices of a lab of network namespaces
joined by emulated WiFi, all stations on one channel, uncoded, with one and two
parity devices, and with every device twice, in turn. See docs/faults.md.

MODEL is an ONNX file or a network's name; without one, it is alexnet. Scenarios: ` + strings.Join(experiment.GatherScenarios(), ", ") + `.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "scenarios", c.Scenarios, experiment.GatherScenarios()); err != nil {
				return err
			}
			if err := oneOf(cmd, "policies", c.Policies, experiment.GatherPolicies()); err != nil {
				return err
			}
			switch {
			case c.Lab == "":
				return usage(cmd, "--lab is missing")
			case c.Requests < 1 || c.Requests > maxBenchRequests:
				return usage(cmd, "--requests %d is not from 1 to %d", c.Requests, maxBenchRequests)
			case c.Turn < 1:
				return usage(cmd, "--turn %d is not positive", c.Turn)
			}
			var err error
			if c.Wire, err = wire.Parse(encoding); err != nil {
				return usage(cmd, "--wire %q: there are %s", encoding, strings.Join(wire.Names(), ", "))
			}
			model := "alexnet"
			if len(args) > 0 {
				model = args[0]
			}
			if err := makeStateDir(c.StateDir); err != nil {
				return err
			}
			progress := startProgress()
			defer progress.stop()
			c.Progress = func(scenario, policy string, done int) {
				progress.now(func() string { return fmt.Sprintf("%s: %s, request %d of %d", scenario, policy, done, c.Requests) })
			}
			err = experiment.Gather(cmd.Context(), func() (*graph.Graph, error) { return benchModel(model, c.Seed) }, c, func(cells []*experiment.Cell) error {
				if asJSON {
					return printIndented(cells)
				}
				return experiment.PrintCells(os.Stdout, cells)
			})
			progress.stop()
			return withStateHint(err)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.Lab, "lab", "", "`FOLDER` of the lab's script, lab.sh")
	f.StringVar(&c.Prefix, "prefix", "st", "of the lab's namespaces; labs with different ones coexist")
	f.StringSliceVar(&c.Scenarios, "scenarios", nil, "`NAMES` of those to run (default: all)")
	f.StringSliceVar(&c.Policies, "policies", nil, "`NAMES` of those to compare: "+strings.Join(experiment.GatherPolicies(), ", ")+" (default: all)")
	f.IntVar(&c.Requests, "requests", 1000, "of each scenario and policy")
	f.IntVar(&c.Turn, "turn", 50, "requests that a policy has before the next one's turn")
	f.DurationVar(&c.Slice, "slice", 15*time.Millisecond, "that a device computes a slice")
	f.StringVar(&encoding, "wire", "f32", "inputs and results on the link: "+strings.Join(wire.Names(), ", "))
	f.Float64Var(&c.Grace, "grace", 0, "of the coordinator, in times of the k-th arrival (0: its default; negative: none)")
	f.Float64Var(&c.Patience, "patience", 0, "of the coordinator of a flock with redundancy, in times of the median of a slice (0: its default; negative: none)")
	f.IntVar(&c.Threads, "threads", 1, "threads that compute, of each worker and of the coordinator")
	f.Uint64Var(&c.Seed, "seed", 1, "of the random input, and of a network's weights")
	f.StringVar(&c.StateDir, "state", stateDir(), "folder in which the workers' parts are kept for the run")
	f.BoolVar(&asJSON, "json", false, "print JSON, an array for each scenario")
	return cmd
}

func experimentSoakCommand() *cobra.Command {
	var c experiment.SoakConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Load many workers on this machine for long, while they fail in every way",
		Long: `Runs the built-in digit network over worker processes on this machine. Requests
arrive at random times, at a share of the rate that the flock answers without
faults, while one worker after the other is killed, stopped, cut off, slowed, or
damages its answers. It fails if a request was lost or answered wrongly, or if the
coordinator's live memory grew. See docs/faults.md.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case c.Data < 2 || c.Data > parity.MaxData:
				return usage(cmd, "--workers %d is not from 2 to %d", c.Data, parity.MaxData)
			case c.Parity < 1 || c.Parity > parity.MaxParity || c.Parity > 1 && c.Data > parity.MaxCoded:
				return usage(cmd, "--parity %d: there are 1 to %d, and 1 for more than %d workers", c.Parity, parity.MaxParity, parity.MaxCoded)
			case c.Duration < time.Second || c.Duration > 1000*time.Hour:
				return usage(cmd, "--duration %v is not from 1s to 1000h", c.Duration)
			case c.Slice < 0 || c.Slice > time.Second:
				return usage(cmd, "--slice %v is not from 0s to 1s", c.Slice)
			case !(c.Load > 0 && c.Load < 1):
				return usage(cmd, "--load %v is not above 0 and below 1", c.Load)
			case c.Every < 100*time.Millisecond || c.Every > time.Hour:
				return usage(cmd, "--every %v is not from 100ms to 1h", c.Every)
			case c.Clients < 1 || c.Clients > coordinator.MaxConcurrency:
				return usage(cmd, "--clients %d is not from 1 to %d", c.Clients, coordinator.MaxConcurrency)
			}
			var err error
			if c.Command, err = workersHere(c.StateDir); err != nil {
				return err
			}
			if !asJSON {
				if err := experiment.PrintSoakHead(os.Stdout); err != nil {
					return err
				}
				c.Sampled = func(s *experiment.SoakSample) error { return experiment.PrintSoak(os.Stdout, s) }
			}
			r, err := experiment.Soak(cmd.Context(), c)
			switch {
			case r == nil:
			case asJSON:
				err = errors.Join(err, printIndented(r))
			default:
				fmt.Printf("%d workers answered %.0f requests a second without faults; %.0f a second were sent\n", r.Workers, r.Capacity, r.Rate)
			}
			return withStateHint(err)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&c.Data, "workers", 63, "data slices K of each layer, a worker each")
	f.IntVar(&c.Parity, "parity", 1, "parity workers R beside them")
	f.DurationVar(&c.Duration, "duration", 30*time.Minute, "how long requests arrive")
	f.DurationVar(&c.Slice, "slice", 20*time.Millisecond, "how long each worker is busy with a slice, at least: sleeping, so that this machine is not")
	f.Float64Var(&c.Load, "load", 0.8, "`SHARE` of the rate that is answered without faults")
	f.DurationVar(&c.Every, "every", time.Second, "how often some worker fails, about, and for how long at most")
	f.IntVar(&c.Clients, "clients", 4, "requests under way at once")
	f.Uint64Var(&c.Seed, "seed", 1, "of the faults and arrivals")
	f.StringVar(&c.StateDir, "state", stateDir(), "folder in which the workers' parts are kept for the run")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
