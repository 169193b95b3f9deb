package house

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// rules are all checks, by the names that the subtests carry.
var rules = map[string]func([]source) []string{
	"levels":          checkLevels,
	"package comment": checkPackageComments,
	"clocks":          checkClocks,
	"length":          checkLength,
	"text":            checkText,
}

func TestModule(t *testing.T) {
	all, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(s source) bool { return s.name == "internal/house/doc.go" }) {
		t.Fatal("the module's root is not two folders up: internal/house/doc.go was not found there")
	}
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, line := range check(all) {
				t.Error(line)
			}
		})
	}
}

// TestRules shows that each rule can fail, and says what it must.
func TestRules(t *testing.T) {
	const doc = "// Package plan plans.\npackage plan\n"
	tests := []struct {
		name  string
		rule  string
		files map[string]string
		want  []string // what each line must contain, in order; none: the rule holds
	}{
		{"import of a lower level", "levels", map[string]string{
			"internal/plan/a.go": `package plan; import ("fmt"; "starling/internal/graph")`,
		}, nil},
		{"import of the same level", "levels", map[string]string{
			"internal/plan/a.go": `package plan; import "starling/internal/zoo"`,
		}, []string{"internal/plan/a.go (level 3) imports starling/internal/zoo (level 3)"}},
		{"import of a higher level", "levels", map[string]string{
			"internal/plan/a.go": `package plan; import "starling/internal/shard"`,
		}, []string{"internal/plan/a.go (level 3) imports starling/internal/shard (level 4)"}},
		{"import of the root", "levels", map[string]string{
			"internal/plan/a.go":   `package plan; import "starling"`,
			"cmd/starling/main.go": `package main; import "starling"`,
			"starling.go":          `package starling; import "starling/internal/flock"`,
		}, []string{"imports starling (level 8)"}},
		{"another module with the same prefix", "levels", map[string]string{
			"internal/plan/a.go": `package plan; import "starlings/zoo"`,
		}, nil},
		{"a build tag hides nothing", "levels", map[string]string{
			"internal/plan/a_arm.go": "//go:build never\n\npackage plan\n\nimport \"starling/internal/shard\"\n",
		}, []string{"a_arm.go"}},
		{"tests may look upward", "levels", map[string]string{
			"internal/plan/a_test.go": `package plan; import "starling/internal/shard"`,
		}, nil},
		{"worker and parity", "levels", map[string]string{
			"internal/worker/a.go": `package worker; import ("starling/internal/onnx"; "starling/internal/parity"; "starling/internal/rewrite")`,
		}, []string{"worker never imports onnx", "worker never imports parity", "worker never imports rewrite"}},
		{"coordinator and worker", "levels", map[string]string{
			"internal/coordinator/a.go": `package coordinator; import "starling/internal/worker"`,
		}, []string{"coordinator never imports worker"}},
		{"time of day", "clocks", map[string]string{
			"internal/link/a.go":      `package link; import "time"; var t = time.Now().Add(time.Second)`,
			"internal/worker/a.go":    `package worker; import "time"; var t = time.Now().UnixNano()`,
			"internal/flock/later.go": `package flock; import "time"; var t = time.Now().UTC()`,
		}, []string{"internal/worker/a.go uses the wall clock, .UnixNano("}},
		{"package without a level", "levels", map[string]string{
			"internal/novel/a.go": `package novel`,
			"internal/novel/b.go": `package novel`,
		}, []string{"add it to the table"}},
		{"import of a package without a level", "levels", map[string]string{
			"internal/plan/a.go": `package plan; import "starling/internal/novel"`,
		}, []string{"has no level"}},
		{"exempt folders", "levels", map[string]string{
			"tools/a/a.go":                `package main; import "starling"`,
			"internal/kernel/_gen/gen.go": `package main; import "starling"`,
		}, nil},

		{"one comment", "package comment", map[string]string{
			"internal/plan/a.go": doc, "internal/plan/b.go": "package plan\n",
		}, nil},
		{"no comment", "package comment", map[string]string{
			"internal/plan/a.go": "package plan\n", "internal/plan/a_test.go": doc,
		}, []string{"package plan in internal/plan has no package comment"}},
		{"two comments", "package comment", map[string]string{
			"internal/plan/a.go": doc, "internal/plan/b.go": doc,
		}, []string{"has 2 package comments: internal/plan/a.go, internal/plan/b.go"}},
		{"a comment about something else", "package comment", map[string]string{
			"internal/plan/a.go": "// Plans are made here.\npackage plan\n",
		}, []string{`begins with "Package plan"`}},
		{"a build constraint is no comment", "package comment", map[string]string{
			"internal/plan/a.go": "//go:build linux\npackage plan\n",
		}, []string{"has no package comment"}},

		{"600 lines", "length", map[string]string{"a.go": "package a\n" + strings.Repeat("\n", 599)}, nil},
		{"601 lines", "length", map[string]string{"a.go": "package a\n" + strings.Repeat("\n", 600)}, []string{"a.go has 601 lines"}},
		{"601 lines of assembly", "length", map[string]string{"a_amd64.s": strings.Repeat("\n", 601)}, []string{"a_amd64.s has 601 lines"}},
		{"generated and test files", "length", map[string]string{
			"gen_a.go":  "package a\n" + strings.Repeat("\n", 600),
			"a.pb.go":   "package a\n" + strings.Repeat("\n", 600),
			"a_test.go": "package a\n" + strings.Repeat("\n", 600),
		}, nil},

		{"machine paths", "text", map[string]string{
			"a.go":           "package a\n\nvar dir = \"/home/me/x\"\n// see /root/x\n",
			"k/_gen/main.go": "package main // /work/x\n",
			"tools/a/a.go":   "package main // /work/x\n",
		}, []string{"a.go:3: /home/", "a.go:4: /root/", "k/_gen/main.go:1: /work/", "tools/a/a.go:1: /work/"}},
		{"part of a longer path", "text", map[string]string{
			"a.go": "package a // example.com/home/x, ./work/x, ~/work/x, shards/root/x\n",
		}, nil},
		{"notes for later", "text", map[string]string{
			"a.go":      "package a // TODO: all\n",
			"a_test.go": "package a // FIXME\n",
			"b.go":      "package a // TODOS and todo\n",
		}, []string{"a.go:1: TODO", "a_test.go:1: FIXME"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range test.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			all, err := load(root)
			if err != nil {
				t.Fatal(err)
			}
			got := rules[test.rule](all)
			if len(got) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("line %d is %q, want it to contain %q", i, got[i], want)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	root := fstest.MapFS{
		"a.go":                     {Data: []byte("package a\n")},
		"a.md":                     {Data: []byte("text\n")},
		"bin/b.go":                 {Data: []byte("not Go")},
		".ci/c.go":                 {Data: []byte("not Go")},
		"internal/d/testdata/d.go": {Data: []byte("not Go")},
		"internal/d/_gen/d.go":     {Data: []byte("package main\n")},
	}
	all, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		got = append(got, s.name)
	}
	if want := []string{"a.go", "internal/d/_gen/d.go"}; !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}

	root["broken.go"] = &fstest.MapFile{Data: []byte("pakage a\n")}
	if _, err := load(root); err == nil || !strings.Contains(err.Error(), "broken.go") {
		t.Errorf("a file that does not parse gives %v, want an error that names it", err)
	}
}
