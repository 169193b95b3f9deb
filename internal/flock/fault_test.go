package flock_test

import (
	"strings"
	"testing"
	"time"

	"starling/internal/flock"
)

func TestParseFault(t *testing.T) {
	tests := []struct {
		spec   string
		want   flock.Fault
		wrong  string // part of the error
		string string
	}{
		{"kill:w1", flock.Fault{Kind: "kill", Worker: 0, Request: 1, Factor: 1}, "", "kill:w1@1"},
		{"stop:w12@300", flock.Fault{Kind: "stop", Worker: 11, Request: 300, Factor: 1}, "", "stop:w12@300"},
		{"restart:w3@9223372036854775807", flock.Fault{Kind: "restart", Worker: 2, Request: 1<<63 - 1, Factor: 1}, "", "restart:w3@9223372036854775807"},
		{"slow:w2=200ms", flock.Fault{Kind: "slow", Worker: 1, Request: 1, Factor: 1, Delay: 200 * time.Millisecond}, "", "slow:w2@1=200ms"},
		{"slow:w2@7=5x", flock.Fault{Kind: "slow", Worker: 1, Request: 7, Factor: 5}, "", "slow:w2@7=5x"},
		{"slow:w2=1.5x", flock.Fault{Kind: "slow", Worker: 1, Request: 1, Factor: 1.5}, "", "slow:w2@1=1.5x"},
		{"cut:w2@7", flock.Fault{Kind: "cut", Worker: 1, Request: 7, Factor: 1}, "", "cut:w2@7"},
		{"drop:w2=5%", flock.Fault{Kind: "drop", Worker: 1, Request: 1, Factor: 1, Percent: 5}, "", "drop:w2@1=5%"},
		{"corrupt:w2@3=0.1%", flock.Fault{Kind: "corrupt", Worker: 1, Request: 3, Factor: 1, Percent: 0.1}, "", "corrupt:w2@3=0.1%"},
		{"corrupt:w2", flock.Fault{Kind: "corrupt", Worker: 1, Request: 1, Factor: 1, Percent: 100}, "", "corrupt:w2@1=100%"},
		{"cut:w2=1s", flock.Fault{}, "cut takes no value", ""},
		{"drop:w2", flock.Fault{}, `"" is not a share`, ""},
		{"drop:w2=5", flock.Fault{}, `"5" is not a share`, ""},
		{"drop:w2=0%", flock.Fault{}, `"0%" is not a share`, ""},
		{"drop:w2=NaN%", flock.Fault{}, `"NaN%" is not a share`, ""},
		{"corrupt:w2=101%", flock.Fault{}, `"101%" is not a share`, ""},
		{"corrupt:w2=", flock.Fault{}, `"" is not a share`, ""},
		{"", flock.Fault{}, "no worker", ""},
		{"kill", flock.Fault{}, "no worker", ""},
		{"kill:", flock.Fault{}, `"" is no worker`, ""},
		{"kill:w", flock.Fault{}, `"w" is no worker`, ""},
		{"kill:1", flock.Fault{}, `"1" is no worker`, ""},
		{"kill:w0", flock.Fault{}, `"w0" is no worker`, ""},
		{"kill:ww1", flock.Fault{}, `"ww1" is no worker`, ""},
		{"kill:w-1", flock.Fault{}, `"w-1" is no worker`, ""},
		{"kill:w65536", flock.Fault{}, `"w65536" is no worker`, ""},
		{"kill:w1@", flock.Fault{}, `"" is no request`, ""},
		{"kill:w1@0", flock.Fault{}, `"0" is no request`, ""},
		{"kill:w1@-1", flock.Fault{}, `"-1" is no request`, ""},
		{"kill:w1@9223372036854775808", flock.Fault{}, "is no request", ""},
		{"kill:w1=", flock.Fault{}, "kill takes no value", ""},
		{"burn:w1", flock.Fault{}, `unknown kind "burn"`, ""},
		{"slow:w1", flock.Fault{}, "neither a delay", ""},
		{"slow:w1=", flock.Fault{}, "neither a delay", ""},
		{"slow:w1=0s", flock.Fault{}, "neither a delay", ""},
		{"slow:w1=2h", flock.Fault{}, "neither a delay", ""},
		{"slow:w1=x", flock.Fault{}, "not a factor", ""},
		{"slow:w1=0.5x", flock.Fault{}, "not a factor", ""},
		{"slow:w1=NaNx", flock.Fault{}, "not a factor", ""},
		{"slow:w1=+Infx", flock.Fault{}, "not a factor", ""},
		{"slow:w1=200ms@3", flock.Fault{}, "neither a delay", ""},
	}
	for _, test := range tests {
		t.Run(test.spec, func(t *testing.T) {
			got, err := flock.ParseFault(test.spec)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) || !strings.Contains(err.Error(), "KIND:WORKER") {
					t.Errorf("gives %v and %v, want an error with %q and the form", got, err, test.wrong)
				}
				return
			}
			if err != nil || got != test.want || got.String() != test.string {
				t.Errorf("gives %+v (%v, %v), want %+v (%s)", got, got, err, test.want, test.string)
			}
		})
	}
}

// FuzzParseFault: whatever is read is written so that it is read as the same.
func FuzzParseFault(f *testing.F) {
	for _, spec := range []string{"kill:w2@10", "slow:w1=200ms", "slow:w1@3=5x", "restart:w3", "stop:w1@1=", "drop:w1=5%", "corrupt:w4", ":@="} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		fault, err := flock.ParseFault(spec)
		if err != nil {
			return
		}
		again, err := flock.ParseFault(fault.String())
		if err != nil || again.String() != fault.String() {
			t.Errorf("%q is %+v, written %v and read again %+v (%v)", spec, fault, fault, again, err)
		}
	})
}

func TestLatencyOf(t *testing.T) {
	ms := func(values ...int) (all []time.Duration) {
		for _, v := range values {
			all = append(all, time.Duration(v)*time.Millisecond)
		}
		return all
	}
	thousand := make([]int, 1000) // 1000, 999, … 1
	for i := range thousand {
		thousand[i] = 1000 - i
	}
	tests := []struct {
		name string
		took []time.Duration
		want flock.Latency
	}{
		{"none", nil, flock.Latency{}},
		{"only lost ones", ms(0, 0), flock.Latency{}},
		{"one", ms(7), flock.Latency{P50: 7, P90: 7, P99: 7, P999: 7, Max: 7}},
		{"two", ms(4, 2), flock.Latency{P50: 2, P90: 4, P99: 4, P999: 4, Max: 4}},
		{"a lost one does not count", ms(0, 3, 1, 2, 0), flock.Latency{P50: 2, P90: 3, P99: 3, P999: 3, Max: 3}},
		{"a thousand", ms(thousand...), flock.Latency{P50: 500, P90: 900, P99: 990, P999: 999, Max: 1000}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := flock.LatencyOf(test.took); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}
