package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"starling/internal/onnx"
	"starling/internal/zoo"
)

func zooCommand() *cobra.Command {
	var file string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "zoo NAME -o FILE",
		Short: "Write a classical network with random weights, for measuring",
		Long: `Writes the topology of a classical network as ONNX, with seeded random weights:
good for measuring, useless for answers. The file's metadata says so.

NAME is one of ` + strings.Join(zoo.Names(), ", ") + `.`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if !slices.Contains(zoo.Names(), args[0]) {
				return usage(cmd, "there is no network %q, there are %s", args[0], strings.Join(zoo.Names(), ", "))
			}
			if file == "" {
				return usage(cmd, "-o FILE is missing")
			}
			g, err := zoo.Build(args[0], seed)
			if err != nil {
				return err
			}
			f, err := os.CreateTemp(filepath.Dir(file), ".starling-*.onnx")
			if err != nil {
				return fmt.Errorf("write %s: %w; choose a folder that exists and is writable", file, errors.Unwrap(err))
			}
			defer func() {
				if err != nil {
					f.Close()
					os.Remove(f.Name())
				}
			}()
			w := bufio.NewWriterSize(f, 1<<20)
			for _, step := range []func() error{
				func() error { return onnx.Encode(w, g) }, w.Flush,
				func() error { return f.Chmod(0o644) }, f.Sync, f.Close,
				func() error { return context.Cause(cmd.Context()) }, // interrupted: no file
			} {
				if err := step(); err != nil {
					return fmt.Errorf("write %s: %w", file, err)
				}
			}
			if err := os.Rename(f.Name(), file); err != nil {
				return fmt.Errorf("write %s: %w; name a file", file, errors.Unwrap(err))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "out", "o", "", "file to write")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the weights")
	return cmd
}
