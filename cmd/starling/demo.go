package main

import (
	"os"

	"github.com/spf13/cobra"

	"starling/internal/experiment"
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "See the main job on this machine: a digit network over workers that fail",
		Long: `Runs a small trained digit network, which is part of this program, over worker
processes on this machine, kills one and stops another in the middle of a
request, with a parity worker and without, and prints what came of it.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return experiment.Demo(cmd.Context(), os.Stdout, nil)
		},
	}
}
