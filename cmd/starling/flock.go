package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/kernel"
	"starling/internal/wire"
)

// flockFlags are what run and serve say of a flock on this machine.
type flockFlags struct {
	plan   planFlags
	config flock.Config
	faults []string
}

func (o *flockFlags) add(cmd *cobra.Command, concurrency int) {
	f := cmd.Flags()
	o.plan.add(cmd)
	f.IntVar(&o.config.Concurrency, "concurrency", concurrency, "requests in flight at once")
	f.IntVar(&o.config.Threads, "threads", 1, "threads that compute, of each worker and of the coordinator")
	f.IntVar(&o.config.Spares, "spares", 0, "workers more than the plan needs: one takes the place of a lost, hung or lying one")
	f.StringVar(&o.config.Policy, "policy", "always", "when parity is asked for: always; hedged, when a slice is later than usual; or on-failure, when one will not come")
	f.Float64Var(&o.config.Patience, "patience", 0, "compute elsewhere what is not there after so many times a slice's usual time; 0 is 1.5, and never with --redundancy none")
	f.Float64Var(&o.config.Audit, "audit", 0, "share of requests, 0 to 1, in which all results are waited for and checked against each other")
	f.StringArrayVar(&o.faults, "fault", nil, "KIND:WORKER[@REQUEST][=VALUE]: kill:w2@10, stop:w1, restart:w3@5, cut:w1, slow:w1=200ms, slow:w1=5x, drop:w1=5%, corrupt:w1, wrong:w1; repeatable")
	f.Float64Var(&o.config.Speed, "emulate-speed", 1, "for labs: workers compute F times as fast, by sleeping")
	f.StringVar(&o.config.StateDir, "state", stateDir(), "folder in which the workers' parts are kept for the run")
}

// check finds what is wrong with the flags alone, and completes the config.
func (o *flockFlags) check(cmd *cobra.Command) error {
	c := &o.config
	if err := o.plan.check(cmd); err != nil {
		return err
	}
	c.Plan = o.plan.options
	switch {
	case c.Concurrency < 1 || c.Concurrency > coordinator.MaxConcurrency:
		return usage(cmd, "--concurrency %d is not from 1 to %d", c.Concurrency, coordinator.MaxConcurrency)
	case c.Threads < 1 || c.Threads > kernel.MaxThreads:
		return usage(cmd, "--threads %d is not from 1 to %d", c.Threads, kernel.MaxThreads)
	case c.Spares < 0 || c.Spares > coordinator.MaxSpares:
		return usage(cmd, "--spares %d is not from 0 to %d", c.Spares, coordinator.MaxSpares)
	case !slices.Contains(coordinator.Policies, c.Policy):
		return usage(cmd, "--policy %q: there are %s", c.Policy, strings.Join(coordinator.Policies, ", "))
	case !(c.Patience >= 0 && c.Patience <= 1e6):
		return usage(cmd, "--patience %v is not from 0 to 1000000", c.Patience)
	case c.Spares > 0 && c.Plan.Workers() == 0:
		return usage(cmd, "--workers 0 has no worker for --spares %d to stand in for", c.Spares)
	case !(c.Audit >= 0 && c.Audit <= 1):
		return usage(cmd, "--audit %v is not a share from 0 to 1", c.Audit)
	case c.Audit > 0 && c.Plan.Wire != wire.F32:
		return usage(cmd, "--audit needs --wire f32: in results that are rounded, a wrong one cannot be told from a right one")
	case !(c.Speed > 0 && c.Speed <= 1):
		return usage(cmd, "--emulate-speed %v is not above 0 and at most 1", c.Speed)
	}
	for _, spec := range o.faults {
		fault, err := flock.ParseFault(spec)
		if err != nil {
			return usage(cmd, "%v", err)
		}
		switch workers := c.Plan.Workers() + c.Spares; {
		case workers == 0:
			return usage(cmd, "--workers 0 has no worker for --fault %s", spec)
		case fault.Worker >= workers:
			return usage(cmd, "--fault %s: there are only %d workers, w1 to w%d", spec, workers, workers)
		}
		c.Faults = append(c.Faults, fault)
	}
	return nil
}

// addDims adds the flag for what a model's file leaves free.
func addDims(cmd *cobra.Command, dims *map[string]int) {
	cmd.Flags().StringToIntVar(dims, "dim", nil, "`NAME=SIZE` of a free dimension of the inputs, as seq=128; repeatable; inspect lists them (default: 1)")
	cmd.Flags().Lookup("dim").DefValue = "" // else help says "default []"
}

// modelName splits a MODEL, FILE or NAME=FILE.
func modelName(model string) (name, path string) {
	if name, path, ok := strings.Cut(model, "="); ok {
		return name, path
	}
	return strings.TrimSuffix(filepath.Base(model), ".onnx"), model
}
