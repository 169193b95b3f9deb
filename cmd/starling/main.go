// Command starling runs a neural network over several small devices, with
// parity devices that make good for any one that is lost. This package has the
// flags and what is said to people; the work is done in internal packages.
//
// Rules for what it says: answers on stdout, everything else on stderr, errors
// as one line that begins "starling:" and names the thing, the cause and, if
// known, what to do next. Exit status 0: all went well; 1: something failed;
// 2: the command was used wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"starling/internal/kernel"
	"starling/internal/tensor"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(run()) }

func run() int {
	tensor.DropProgram() // what starting took
	// Weights are most of the heap, cost the collector nothing to look at, and
	// hardly change: garbage of a tenth of them is enough to wait for.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(10)
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		signals = append(signals, syscall.SIGHUP) // the terminal was closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends at once
	// A reader that goes away (| head) must not end this process before it has
	// tidied up: with the signal caught, the write fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	root := &cobra.Command{
		Use:   "starling",
		Short: "Run one neural network over several small devices, and lose none of its requests with them",
		Long: `Starling splits an ONNX model over several small devices and adds parity devices:
what a dead, hung or slow device owed is recovered by a subtraction, in the same
request.

  starling demo                        see it on this machine, with failing workers
  starling inspect model.onnx          what is in a model
  starling run model.onnx photo.jpg    run it over 4+1 worker processes here
  starling serve model.onnx            answer clients with it`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.DisableSuggestions = true // they take several lines
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text := err.Error()
		if number, ok := errors.AsType[*strconv.NumError](err); ok { // says which function of Go parsed it
			text = strings.ReplaceAll(text, number.Error(), number.Err.Error())
		}
		return usage(cmd, "%s", text)
	})
	root.SetHelpCommand(helpCommand())
	root.AddCommand(demoCommand(), runCommand(), serveCommand(), inspectCommand(), planCommand(), workerCommand(), zooCommand(), benchCommand(), experimentCommand())
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return setLevel() }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var wrong *usageError
	switch {
	case errors.As(err, &wrong):
	case strings.HasPrefix(err.Error(), "unknown command"): // cobra has no type for it
		wrong = &usageError{err: err, help: "starling --help"}
		err = wrong
	}
	fmt.Fprintf(os.Stderr, "starling: %s\n", oneLine(err))
	if wrong != nil {
		return 2
	}
	return 1
}

// setLevel obeys STARLING_LEVEL, with which a lesser instruction set is measured
// on this CPU.
func setLevel() error {
	name := os.Getenv("STARLING_LEVEL")
	if name == "" {
		return nil
	}
	if err := kernel.SetLevel(name); err != nil {
		return &usageError{err: fmt.Errorf("STARLING_LEVEL: %w", err), help: "starling --help"}
	}
	return nil
}

// helpCommand is cobra's, but a wrong topic is wrong usage.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(cmd.Root(), "there is no command %q", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag() // else it would be missing in the text
			return topic.Help()
		},
	}
}

// usageError is a command used wrongly.
type usageError struct {
	err  error
	help string
}

func (e *usageError) Error() string { return fmt.Sprintf("%v; see %s", e.err, e.help) }
func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), help: cmd.CommandPath() + " --help"}
}

// atLeast demands n arguments, called what.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usage(cmd, "%s is missing", what)
		}
		return nil
	}
}

// exactly demands n arguments, called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(cmd, "unexpected argument %q", args[n])
		}
		return atLeast(n, what)(cmd, args)
	}
}

// withHint adds what to do next to the error of a file that cannot be read.
func withHint(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; check the path", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; make it readable for you", err)
	}
	return err
}

// withStateHint does so for the state folder.
func withStateHint(err error) error {
	for _, cause := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w; make room, or choose another folder with --state", err)
		}
	}
	return err
}

func oneLine(err error) string {
	return visible(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; "))
}

// visible is s without what could move a terminal's cursor or change its
// colours: names and texts come from files that nobody has checked.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// stateDir is where workers keep shards unless told otherwise: $XDG_STATE_HOME
// or ~/.local/state (XDG Base Directory Specification 0.8), then starling.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "starling")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "starling")
	}
	return filepath.Join(os.TempDir(), "starling")
}

func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w; choose another with --state", err)
	}
	return nil
}

// terminal reports whether f is shown to a person.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
