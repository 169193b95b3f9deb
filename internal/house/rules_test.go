package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// module is the path in go.mod.
const module = "starling"

// levels is the table of docs/architecture.md: a package imports only packages on lower
// levels. Keys are folders relative to the module's root; "." is package starling.
var levels = map[string]int{
	"internal/tensor":      0,
	"internal/digits":      0,
	"internal/mark":        0,
	"internal/onnx/onnxpb": 0,
	"internal/serve/oippb": 0,
	"internal/kernel":      1,
	"internal/graph":       1,
	"internal/frame":       1,
	"internal/onnx":        2,
	"internal/parity":      2,
	"internal/link":        2,
	"internal/wire":        2,
	"internal/engine":      2,
	"internal/rewrite":     3,
	"internal/plan":        3,
	"internal/conformance": 4,
	"internal/input":       3,
	"internal/zoo":         3,
	"internal/shard":       4,
	"internal/worker":      5,
	"internal/coordinator": 6,
	"internal/flock":       7,
	"internal/experiment":  8,
	"internal/serve":       8,
	".":                    8,
	"cmd/starling":         9,
}

// forbidden are imports that the levels allow and the design does not: a worker cannot
// tell a parity slice from another, and a coordinator meets workers only by their frames.
var forbidden = map[string][]string{
	"internal/worker":      {"internal/parity", "internal/onnx", "internal/rewrite"},
	"internal/coordinator": {"internal/worker"},
}

// exempt are the folders, with all below them, that are no part of the levels.
var exempt = []string{"internal/house", "tools"}

// maxLines is the length past which a file is split.
const maxLines = 600

// source is one Go or assembly file of the module.
type source struct {
	name string // slash-separated, relative to the module's root
	text []byte
	file *ast.File // comments and imports only; nil for assembly
}

func (s source) dir() string { return path.Dir(s.name) }
func (s source) test() bool  { return strings.HasSuffix(s.name, "_test.go") }
func (s source) within(dir string) bool {
	return s.dir() == dir || strings.HasPrefix(s.name, dir+"/")
}

// built reports whether the go tool sees the file as part of the module's packages:
// folders that begin with a dot or underscore, and those called testdata, are passed over.
func (s source) built() bool {
	for _, part := range strings.Split(s.dir(), "/") {
		if part != "." && (part[0] == '.' || part[0] == '_') || part == "testdata" {
			return false
		}
	}
	return s.file != nil
}

// load reads every Go and assembly file under root, testdata and hidden folders and the
// root's bin excepted.
func load(root fs.FS) ([]source, error) {
	var all []source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == "bin" || d.Name() == "testdata" || name != "." && d.Name()[0] == '.' {
				return fs.SkipDir
			}
			return nil
		}
		ext := path.Ext(name)
		if ext != ".go" && ext != ".s" {
			return nil
		}
		s := source{name: name}
		if s.text, err = fs.ReadFile(root, name); err != nil {
			return err
		}
		if ext == ".go" {
			s.file, err = parser.ParseFile(token.NewFileSet(), name, s.text, parser.ImportsOnly|parser.ParseComments)
			if err != nil {
				return fmt.Errorf("parse %s: %w", name, err)
			}
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// checkLevels returns a line for each non-test import that points upward or sideways, for
// each that forbidden names, and for each package that the table lacks.
func checkLevels(all []source) []string {
	var broken []string
	unlisted := map[string]bool{}
	for _, s := range all {
		if !s.built() || s.test() || slices.ContainsFunc(exempt, s.within) {
			continue
		}
		level, ok := levels[s.dir()]
		if !ok {
			if !unlisted[s.dir()] {
				broken = append(broken, fmt.Sprintf("package %s has no level: add it to the table in internal/house/rules_test.go and docs/architecture.md", s.dir()))
			}
			unlisted[s.dir()] = true
			continue
		}
		for _, spec := range s.file.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				broken = append(broken, fmt.Sprintf("%s imports %s: %v", s.name, spec.Path.Value, err))
				continue
			}
			dir, ours := folder(target)
			if !ours {
				continue
			}
			targetLevel, ok := levels[dir]
			switch {
			case slices.Contains(forbidden[s.dir()], dir):
				broken = append(broken, fmt.Sprintf("%s imports %s: %s never imports %s", s.name, target, path.Base(s.dir()), path.Base(dir)))
			case !ok:
				broken = append(broken, fmt.Sprintf("%s imports %s, which has no level", s.name, target))
			case targetLevel >= level:
				broken = append(broken, fmt.Sprintf("%s (level %d) imports %s (level %d): a package imports only lower levels", s.name, level, target, targetLevel))
			}
		}
	}
	return broken
}

// folder returns the folder of an import path, and whether it is in this module.
func folder(importPath string) (dir string, ours bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// checkPackageComments returns a line for each package that has no package comment, more
// than one, or one that does not begin with the package's name. Packages of tests alone
// need none.
func checkPackageComments(all []source) []string {
	type pkg struct{ dir, name string }
	documented := map[pkg][]string{} // the files that carry the comment
	var order []pkg
	var broken []string
	for _, s := range all {
		if !s.built() || s.test() {
			continue
		}
		p := pkg{s.dir(), s.file.Name.Name}
		if _, ok := documented[p]; !ok {
			documented[p] = nil
			order = append(order, p)
		}
		text := s.file.Doc.Text()
		if text == "" {
			continue
		}
		documented[p] = append(documented[p], s.name)
		if p.name != "main" && !strings.HasPrefix(text, "Package "+p.name+" ") {
			broken = append(broken, fmt.Sprintf("%s: the package comment begins with %q", s.name, "Package "+p.name))
		}
	}
	for _, p := range order {
		switch files := documented[p]; len(files) {
		case 0:
			broken = append(broken, fmt.Sprintf("package %s in %s has no package comment", p.name, p.dir))
		case 1:
		default:
			broken = append(broken, fmt.Sprintf("package %s in %s has %d package comments: %s", p.name, p.dir, len(files), strings.Join(files, ", ")))
		}
	}
	return broken
}

// checkLength returns a line for each file past maxLines that is neither generated nor a
// test.
func checkLength(all []source) []string {
	var broken []string
	for _, s := range all {
		generated := strings.HasPrefix(path.Base(s.name), "gen_") || strings.HasSuffix(s.name, ".pb.go")
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines && !generated && !s.test() {
			broken = append(broken, fmt.Sprintf("%s has %d lines: split it (at most %d)", s.name, n, maxLines))
		}
	}
	return broken
}

var (
	// An absolute path, not the middle of a longer one or of a URL.
	machinePath = regexp.MustCompile(`(?:^|[^\w.~/-])(/(?:work|root|home)/)`)
	leftNote    = regexp.MustCompile(`\b(TODO|FIXME)\b`)
)

// checkText returns a line for each machine path and each note left for later.
func checkText(all []source) []string {
	var broken []string
	for _, s := range all {
		if s.within("internal/house") {
			continue // the rules and their examples name what they look for
		}
		number := 0
		for line := range bytes.Lines(s.text) {
			number++
			if m := machinePath.FindSubmatch(line); m != nil {
				broken = append(broken, fmt.Sprintf("%s:%d: %s is a path of one machine", s.name, number, m[1]))
			}
			if m := leftNote.FindSubmatch(line); m != nil {
				broken = append(broken, fmt.Sprintf("%s:%d: %s: do it now or open an issue", s.name, number, m[1]))
			}
		}
	}
	return broken
}

// timed are the packages that decide by how long something takes. A clock that is set
// while they run, as by NTP after a boot without a battery, must not reach them.
var timed = []string{"internal/link", "internal/worker", "internal/coordinator"}

// wallClock is what looks at the time of day, or takes a time's monotonic reading away.
var wallClock = regexp.MustCompile(`\.(Unix|UnixNano|UnixMilli|UnixMicro|UTC|Local|AddDate|Clock)\(|\btime\.(Date|Parse)\(`)

// checkClocks returns a line for each use of the wall clock in a package that is timed.
func checkClocks(all []source) []string {
	var broken []string
	for _, s := range all {
		if !slices.Contains(timed, s.dir()) || s.test() {
			continue
		}
		if found := wallClock.Find(s.text); found != nil {
			broken = append(broken, fmt.Sprintf("%s uses the wall clock, %s…: times are compared by their monotonic reading, so that a clock may jump", s.name, found))
		}
	}
	return broken
}
