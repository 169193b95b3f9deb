package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"starling/internal/digits"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// TestMain puts this test binary, acting as starling, into the PATH: scripts
// and tests run it as people do, and it starts itself as workers.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"starling": main})
}

// TestScripts runs testdata/script: one file for each thing that people do.
func TestScripts(t *testing.T) {
	folder, err := filepath.Abs("../../internal/digits")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails": fails, "json": checkJSON, "npy": writeNPY, "model": writeModel, "same": same, "empty": empty,
		},
		Setup: func(e *testscript.Env) error {
			state := filepath.Join(e.WorkDir, "state")
			e.Setenv("GORACE", os.Getenv("GORACE")) // scripts inherit nothing
			e.Setenv("XDG_STATE_HOME", state)
			e.Setenv("STATE", filepath.Join(state, "starling"))
			e.Setenv("MODEL", filepath.Join(folder, "digits.onnx"))
			e.Setenv("DIGITS", filepath.Join(folder, "digits-images-idx3-ubyte.gz"))
			e.Setenv("LABELS", filepath.Join(folder, "labels.txt"))
			return nil
		},
	})
}

// fails STATUS PATTERN COMMAND… demands that the command ends with the status,
// says exactly one line on stderr, which begins "starling: " and matches the
// pattern, and leaves no part of a model in the state folder.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fails STATUS PATTERN COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	err = ts.Exec(args[2], args[3:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != want {
		ts.Fatalf("ended with %v, not status %d", err, want)
	}
	said := ts.ReadFile("stderr")
	line, rest, whole := strings.Cut(said, "\n")
	if !whole || rest != "" || !strings.HasPrefix(line, "starling: ") {
		ts.Fatalf("stderr is not one line that begins with starling:")
	}
	if !pattern.MatchString(line) {
		ts.Fatalf("stderr does not match %s", args[1])
	}
	checkEmpty(ts, ts.Getenv("STATE"))
}

// empty FOLDER… demands that each folder is empty or not there.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		checkEmpty(ts, ts.MkAbs(dir))
	}
}

func checkEmpty(ts *testscript.TestScript, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		ts.Check(err)
	}
	if len(entries) > 0 {
		ts.Fatalf("%s holds %v", dir, entries)
	}
}

// json CHECK… looks into the JSON object that the last command printed. A CHECK
// is PATH=VALUE, PATH>NUMBER, PATH:KEYS for exactly those keys in that order,
// or VARIABLE:=PATH, which sets an environment variable. A PATH has names and
// indices: workers.0.id; the empty one is the whole object.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	raw := []byte(ts.ReadFile("stdout"))
	var whole any
	ts.Check(json.Unmarshal(raw, &whole))
	for _, arg := range args {
		if name, path, ok := strings.Cut(arg, ":="); ok {
			ts.Setenv(name, fmt.Sprint(at(ts, whole, path)))
			continue
		}
		i := strings.IndexAny(arg, "=>:")
		if i < 0 {
			ts.Fatalf("%s is no check", arg)
		}
		path, want := arg[:i], arg[i+1:]
		switch arg[i] {
		case '=':
			if got := fmt.Sprint(at(ts, whole, path)); got != want {
				ts.Fatalf("%s is %s, want %s", path, got, want)
			}
		case '>':
			limit, err := strconv.ParseFloat(want, 64)
			ts.Check(err)
			if got, ok := at(ts, whole, path).(float64); !ok || got <= limit {
				ts.Fatalf("%s is %v, want more than %s", path, got, want)
			}
		case ':':
			if got := strings.Join(keysOf(ts, raw, path), ","); got != want {
				ts.Fatalf("%q has the keys %s, want %s", path, got, want)
			}
		}
	}
}

// at follows a path into decoded JSON.
func at(ts *testscript.TestScript, v any, path string) any {
	if path == "" {
		return v
	}
	for _, step := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[step]
			if !ok {
				ts.Fatalf("%s: no %q", path, step)
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				ts.Fatalf("%s: no element %q of %d", path, step, len(x))
			}
			v = x[i]
		default:
			ts.Fatalf("%s: nothing below %v", path, x)
		}
	}
	return v
}

// keysOf are the keys of the object at a path, in the order they stand in.
func keysOf(ts *testscript.TestScript, raw []byte, path string) []string {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		if i, err := strconv.Atoi(step); err == nil {
			var list []json.RawMessage
			ts.Check(json.Unmarshal(raw, &list))
			raw = list[i]
			continue
		}
		var object map[string]json.RawMessage
		ts.Check(json.Unmarshal(raw, &object))
		raw = object[step]
	}
	var keys []string
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token()
	ts.Check(err)
	for d.More() {
		key, err := d.Token()
		ts.Check(err)
		keys = append(keys, key.(string))
		var value json.RawMessage
		ts.Check(d.Decode(&value))
	}
	return keys
}

// npy FILE f32|i32 DIM… writes an array of zeros.
func writeNPY(ts *testscript.TestScript, neg bool, args []string) {
	dtype, ok := map[string]tensor.DType{"f32": tensor.Float32, "i32": tensor.Int32}[args[1]]
	if !ok {
		ts.Fatalf("no element type %s", args[1])
	}
	var shape tensor.Shape
	for _, arg := range args[2:] {
		d, err := strconv.Atoi(arg)
		ts.Check(err)
		shape = append(shape, d)
	}
	w, err := input.CreateNPY(ts.MkAbs(args[0]), shape[0], graph.Info{Type: dtype, Shape: append(tensor.Shape{1}, shape[1:]...)})
	ts.Check(err)
	for i := range shape[0] {
		ts.Check(w.Write(i, tensor.New(dtype, append(tensor.Shape{1}, shape[1:]...)...)))
	}
	ts.Check(w.Commit())
}

// model FILE KIND writes the digit model with something changed: "nan", a weight
// that is no number; "truncated", cut in the middle; "unsupported", a node with
// an operator that nobody has; "two", the digit model with its input twice, of
// which it takes the sum, and with the sum as a second output.
func writeModel(ts *testscript.TestScript, neg bool, args []string) {
	g, err := onnx.ParseBytes(digits.Model)
	ts.Check(err)
	if args[1] == "two" {
		x := g.Inputs[0]
		for _, n := range g.Nodes {
			for i, in := range n.Inputs {
				if in == x.Name {
					n.Inputs[i] = "sum"
				}
			}
		}
		g.Inputs = []graph.Value{{Name: "left", Info: x.Info}, {Name: "right", Info: x.Info}}
		add := &graph.Node{Name: "add", Op: "Add", Inputs: []string{"left", "right"}, Outputs: []string{"sum"}}
		g.Nodes = append([]*graph.Node{add}, g.Nodes...)
		g.Outputs = append(g.Outputs, "sum")
	}
	ts.Check(g.Prepare())
	switch args[1] {
	case "nan":
		names := []string{}
		for name, c := range g.Constants {
			if c.Type == tensor.Float32 && len(c.Shape) == 4 {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		g.Constants[names[0]].F32()[7] = float32(math.NaN())
	case "hostile": // to a terminal
		g.Metadata = map[string]string{"recipe": "\x1b]0;gone\x07\u202e\nand more"}
	case "unsupported":
		g.Nodes[1].Op = "Frobnicate"
	}
	var b bytes.Buffer
	ts.Check(onnx.Encode(&b, g))
	if args[1] == "truncated" {
		b.Truncate(b.Len() / 2)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o666))
}

// same FILE.npy ROW demands that the JSON just printed and the file agree: top
// are the five largest numbers of the file's row and their places.
func same(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	all, err := input.ReadNPY(f, 1<<20)
	ts.Check(err)
	row, err := strconv.Atoi(args[1])
	ts.Check(err)
	n := all.Shape[1]
	if all.Shape[0] <= row {
		ts.Fatalf("%s has shape %v", args[0], all.Shape)
	}
	want := input.Top(all.F32()[row*n:(row+1)*n], nil, 5)
	var printed struct {
		Top []struct {
			Class int
			Score float32
		}
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &printed))
	if len(printed.Top) != len(want) {
		ts.Fatalf("%d classes printed, want %d", len(printed.Top), len(want))
	}
	for i, p := range printed.Top {
		if p.Class != want[i].Class || p.Score != want[i].Score {
			ts.Fatalf("class %d is %v, the file has %+v", i, p, want[i])
		}
	}
}
