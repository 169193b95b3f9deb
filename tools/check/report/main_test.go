package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const (
		pass = `{"Action":"output","Package":"m/a","Test":"TestA","Output":"noise of a\n"}
{"Action":"pass","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.1s\n"}
{"Action":"pass","Package":"m/a"}
`
		skip = `{"Action":"output","Package":"m/b","Test":"TestB","Output":"    b_test.go:3: needs the model\n"}
{"Action":"skip","Package":"m/b","Test":"TestB"}
{"Action":"output","Package":"m/b","Output":"ok  \tm/b\t0.1s\n"}
{"Action":"pass","Package":"m/b"}
`
		noTests = `{"Action":"output","Package":"m/c","Output":"?   \tm/c\t[no test files]\n"}
{"Action":"skip","Package":"m/c"}
`
		fail = `{"Action":"output","Package":"m/d","Test":"TestD","Output":"    d_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"m/d","Test":"TestD"}
{"Action":"output","Package":"m/d","Output":"FAIL\tm/d\t0.1s\n"}
{"Action":"fail","Package":"m/d"}
`
		noBuild = `{"ImportPath":"m/e","Action":"build-output","Output":"e.go:1:1: undefined: x\n"}
{"ImportPath":"m/e","Action":"build-fail"}
{"Action":"output","Package":"m/e","Output":"FAIL\tm/e [build failed]\n"}
{"Action":"fail","Package":"m/e","FailedBuild":"m/e"}
`
		timeout = `{"Action":"output","Package":"m/f","Test":"TestF","Output":"waiting\n"}
{"Action":"output","Package":"m/f","Output":"FAIL\tm/f\t600s\n"}
{"Action":"fail","Package":"m/f"}
`
	)
	tests := []struct {
		name    string
		events  string
		noskip  bool
		want    []string // in what is printed
		wantErr string   // in the error; empty: none
	}{
		{"all pass", pass + noTests, true, []string{"ok  \tm/a\t0.1s\n", "1 passed, 0 skipped"}, ""},
		{"a skip allowed", pass + skip, false, []string{"skipped: m/b TestB", "needs the model", "1 passed, 1 skipped"}, ""},
		{"a skip not allowed", pass + skip, true, []string{"skipped: m/b TestB", "needs the model"}, "1 tests skipped"},
		{"a failure", pass + fail, false, []string{"ok  \tm/a\t0.1s\n", "got 1, want 2", "FAIL\tm/d\t0.1s\n"}, "tests failed"},
		{"a failed build", pass + noBuild, false, []string{"undefined: x", "[build failed]"}, "tests failed"},
		{"a timeout", pass + timeout, false, []string{"unfinished: m/f TestF\nwaiting"}, "tests failed"},
		{"no tests at all", noTests, false, nil, "no test ran"},
		{"every test skipped", skip, false, nil, "no test ran"},
		{"nothing", "", false, nil, "no test ran"},
		{"not events", "go: no such package\n", false, nil, "read go test's events"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var printed strings.Builder
			err := report(strings.NewReader(test.events), &printed, test.noskip)
			for _, want := range test.want {
				if !strings.Contains(printed.String(), want) {
					t.Errorf("printed %q, want %q in it", &printed, want)
				}
			}
			if strings.Contains(printed.String(), "noise of a") {
				t.Errorf("printed the output of a test that passed: %q", &printed)
			}
			switch {
			case test.wantErr == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
				t.Errorf("error %v, want one with %q", err, test.wantErr)
			}
		})
	}
}
