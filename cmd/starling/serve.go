package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/serve"
)

// serveOptions are the flags of starling serve.
type serveOptions struct {
	flockFlags
	rest, rpc string // addresses
}

// maxWaiting is the most that --waiting may be.
const maxWaiting = 1 << 16

func serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve MODEL…",
		Short: "Serve models to clients of the Open Inference Protocol",
		Long: `Starts k+r worker processes and a coordinator here for each model, and answers
requests of the Open Inference Protocol (version 2, as KServe and Triton speak it),
REST and gRPC, until it is interrupted; what is under way then is answered.

MODEL is FILE, which is served under its name without .onnx, or NAME=FILE.`,
		Example: `  starling serve digits.onnx
  starling serve faces=retina.onnx voices=kws.onnx --workers 3 --http 127.0.0.1:9000 --grpc 127.0.0.1:9001
  curl http://127.0.0.1:8000/v2/models/digits`,
		Args: atLeast(1, "MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.rest, "http", "127.0.0.1:8000", "`ADDRESS` for REST, of loopback; port 0 is any free one")
	f.StringVar(&o.rpc, "grpc", "127.0.0.1:8001", "`ADDRESS` likewise for gRPC")
	o.flockFlags.add(cmd, 8)
	f.IntVar(&o.config.Waiting, "waiting", 0, "requests to a model that may wait beside them; more are told when to come again (default: 16 for each of --concurrency)")
	return cmd
}

func (o *serveOptions) check(cmd *cobra.Command, models []string) error {
	if err := o.flockFlags.check(cmd); err != nil {
		return err
	}
	if o.config.Waiting < 0 || o.config.Waiting > maxWaiting {
		return usage(cmd, "--waiting %d is not from 0 to %d", o.config.Waiting, maxWaiting)
	}
	if o.config.Waiting == 0 && !cmd.Flags().Changed("waiting") {
		o.config.Waiting = 16 * o.config.Concurrency
	} else if o.config.Waiting == 0 {
		o.config.Waiting = -1 // none
	}
	names := make(map[string]bool, len(models))
	for _, model := range models {
		name, _ := modelName(model)
		if err := serve.CheckName(name); err != nil {
			return usage(cmd, "%v: name it with NAME=FILE", err)
		}
		if names[name] {
			return usage(cmd, "two models are called %q: name one with NAME=FILE", name)
		}
		names[name] = true
	}
	if err := checkLoopback(cmd, "http", o.rest); err != nil {
		return err
	}
	return checkLoopback(cmd, "grpc", o.rpc)
}

// checkLoopback refuses an address that others could reach.
func checkLoopback(cmd *cobra.Command, flag, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usage(cmd, "--%s %q is not HOST:PORT", flag, address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usage(cmd, "--%s %s: only loopback, as 127.0.0.1, can be served: there is no TLS yet, so put a proxy with TLS in front", flag, address)
	}
	return nil
}

func (o *serveOptions) run(cmd *cobra.Command, args []string) (err error) {
	if err := o.check(cmd, args); err != nil {
		return err
	}
	ctx := cmd.Context()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// Taken first: an address that is in use is said at once.
	rest, err := net.Listen("tcp", o.rest)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --http", err)
	}
	defer rest.Close()
	rpc, err := net.Listen("tcp", o.rpc)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --grpc", err)
	}
	defer rpc.Close()
	if o.config.Plan.Workers() > 0 {
		if err := makeStateDir(o.config.StateDir); err != nil {
			return err
		}
	}
	o.config.Log = log
	var models []serve.Model
	defer func() {
		for _, m := range models {
			err = errors.Join(err, m.Flock.Close())
		}
	}()
	progress := startProgress()
	defer progress.stop()
	for _, arg := range args {
		progress.now(func() string { return "starting " + arg })
		m, err := startModel(ctx, arg, o.plan.dims, o.config)
		if err != nil {
			return err
		}
		models = append(models, m)
	}
	progress.stop()
	places := 64 // that are read and written while all others are computed or wait
	for range models {
		places += o.config.Concurrency + max(o.config.Waiting, 0)
	}
	server, err := serve.New(models, serve.Config{Version: version, Requests: places, Log: log})
	if err != nil {
		return err
	}
	for _, m := range models {
		fmt.Printf("http://%s/v2/models/%s  %s\n", rest.Addr(), m.Name, planned(m.Flock))
	}
	fmt.Printf("grpc://%s  the same over gRPC\n", rpc.Addr())
	return server.Run(ctx, rest, rpc)
}

// startModel starts the flock of a MODEL.
func startModel(ctx context.Context, arg string, dims map[string]int, config flock.Config) (m serve.Model, err error) {
	name, path := modelName(arg)
	g, err := onnx.Decode(path, dims)
	if err != nil {
		return m, withHint(err)
	}
	m = serve.Model{Name: name, Inputs: g.Inputs}
	for _, out := range g.Outputs {
		m.Outputs = append(m.Outputs, graph.Value{Name: out, Info: g.Infos[out]})
	}
	if m.Flock, err = flock.Start(ctx, g, config); err != nil {
		return m, fmt.Errorf("%s: %w", arg, withStateHint(err))
	}
	return m, nil
}
