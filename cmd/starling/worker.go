package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"starling/internal/kernel"
	"starling/internal/worker"
)

func workerCommand() *cobra.Command {
	var cfg worker.Config
	var endWithStdin bool
	cmd := &cobra.Command{
		Use:   "worker --join HOST:PORT",
		Short: "Make this machine a device of a flock",
		Long: `Joins a coordinator, takes in the part of the model it is given, and computes it
on request until it is ended. A lost coordinator is dialled again; a part once
taken in is kept and not sent again. The coordinator's token is read from
STARLING_TOKEN.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, port, err := net.SplitHostPort(cfg.Join); err != nil {
				return usage(cmd, "--join %q is not HOST:PORT", cfg.Join)
			} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return usage(cmd, "--join %q: the port is not a number from 1 to 65535", cfg.Join)
			}
			if !(cfg.Speed > 0) {
				return usage(cmd, "--emulate-speed %v is not a positive number", cfg.Speed)
			}
			if cfg.Slice < 0 || cfg.Slice > time.Hour {
				return usage(cmd, "--emulate-slice %v is not from 0 to 1h", cfg.Slice)
			}
			if cfg.Threads < 0 || cfg.Threads > kernel.MaxThreads {
				return usage(cmd, "--threads %d is not from 0 to %d", cfg.Threads, kernel.MaxThreads)
			}
			cfg.Token = os.Getenv("STARLING_TOKEN")
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			if cfg.ID == "" {
				id, err := identity(cfg.StateDir)
				if err != nil {
					return err
				}
				cfg.ID = id
			}
			ctx := cmd.Context()
			if endWithStdin {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				go func() {
					_, _ = io.Copy(io.Discard, os.Stdin)
					cancel()
				}()
			}
			return worker.Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Join, "join", "", "address of the coordinator's link, HOST:PORT")
	f.StringVar(&cfg.Name, "name", "", "wished place in the flock, as w2")
	f.StringVar(&cfg.ID, "id", "", "identity, kept over restarts (default: one kept in the state folder)")
	f.StringVar(&cfg.StateDir, "state", stateDir(), "folder in which parts of models are kept")
	f.IntVar(&cfg.Threads, "threads", 0, "threads that compute (default: one for each CPU that it may use)")
	f.Float64Var(&cfg.Speed, "emulate-speed", 1, "for labs: computing takes 1/F as long, by sleeping")
	f.DurationVar(&cfg.Slice, "emulate-slice", 0, "for labs: computing a slice takes so long at least, by sleeping")
	f.DurationVar(&cfg.Load, "emulate-load", 0, "for labs: loading a part of a model takes so much longer")
	f.BoolVar(&endWithStdin, "end-with-stdin", false, "end when standard input is closed")
	f.Lookup("end-with-stdin").Hidden = true
	return cmd
}

// identity reads this machine's identity from the state folder, making one if
// there is none.
func identity(dir string) (string, error) {
	path := filepath.Join(dir, "id")
	b, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read this worker's identity: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep this worker's identity: %w", err)
	}
	id := rand.Text()
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep this worker's identity: %w", err)
	}
	return id, nil
}
