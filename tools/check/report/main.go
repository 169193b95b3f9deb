// Command report reads the events of `go test -json` on standard input and prints what a
// person needs of them: go test's own line for each package, all output of what failed,
// and every skipped test with its reason. It exits 1 if anything failed, if no test ran,
// or, with -noskip, if anything was skipped.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`), and of the build events
// among them (`go help buildjson`).
type event struct {
	Action     string
	Package    string
	Test       string // empty: the event is the package's
	Output     string
	ImportPath string // of build events
}

func main() {
	noskip := flag.Bool("noskip", false, "fail if a test was skipped")
	flag.Parse()
	if err := report(os.Stdin, os.Stdout, *noskip); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// report copies what matters of events to w. Its error says why the run does not pass.
func report(events io.Reader, w io.Writer, noskip bool) error {
	type test struct{ pkg, name string }
	output := map[test]string{} // of what has not ended yet
	failed := false
	var passed, skipped int
	lines := json.NewDecoder(events)
	for {
		var e event
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read go test's events: %w", err)
		}
		t := test{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Fprint(w, e.Output)
		case "build-fail":
			failed = true
		case "output":
			output[t] += e.Output
		case "pass":
			if e.Test == "" {
				fmt.Fprint(w, closing(output[t]))
			} else {
				passed++
			}
			delete(output, t)
		case "fail":
			failed = true
			fmt.Fprint(w, output[t])
			delete(output, t)
		case "skip":
			if e.Test != "" { // a package without tests is "skipped" too
				skipped++
				fmt.Fprintf(w, "skipped: %s %s\n%s", e.Package, e.Test, output[t])
			}
			delete(output, t)
		}
	}
	switch {
	case failed:
		for t, text := range output { // cut off by a panic or a timeout
			fmt.Fprintf(w, "unfinished: %s %s\n%s", t.pkg, t.name, text)
		}
		return fmt.Errorf("tests failed, see above (%d passed, %d skipped)", passed, skipped)
	case passed == 0:
		return errors.New("no test ran")
	case noskip && skipped > 0:
		return fmt.Errorf("%d tests skipped, see above (%d passed)", skipped, passed)
	}
	fmt.Fprintf(w, "%d passed, %d skipped\n", passed, skipped)
	return nil
}

// closing returns go test's own last line about a package, such as
// "ok  	starling/internal/plan	0.1s".
func closing(output string) string {
	output = strings.TrimRight(output, "\n")
	return output[strings.LastIndexByte(output, '\n')+1:] + "\n"
}
