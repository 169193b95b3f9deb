package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

func TestHealthyFlockAnswersAsOneMachine(t *testing.T) {
	for name := range models {
		for _, batch := range []int{1, 3} {
			for _, code := range [][2]int{{1, 0}, {1, 1}, {2, 0}, {3, 1}, {5, 1}} {
				t.Run(fmt.Sprintf("%s batch %d k=%d r=%d", name, batch, code[0], code[1]), func(t *testing.T) {
					inLab(t, model(t, name, batch, code[0], code[1]), coordinator.Config{}, func(t *testing.T, l *lab) {
						l.start()
						for i := range 3 {
							a, _ := l.infer()
							if len(a.Decoded)+len(a.Recomputed)+a.Late != 0 || a.Request != uint64(i+1) {
								t.Errorf("answer %+v", a)
							}
						}
						if l.c.Damaged() != 0 {
							t.Errorf("%d damaged results", l.c.Damaged())
						}
					})
				})
			}
		}
	}
}

// Whichever worker is dead, before or in the middle of a request, every layer
// in which it holds data is decoded, and nothing is lost.
func TestOneDeadWorker(t *testing.T) {
	for name := range models {
		for dead := range 4 {
			t.Run(fmt.Sprintf("%s w%d before", name, dead+1), func(t *testing.T) {
				inLab(t, model(t, name, 2, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead)
					for range 3 {
						a, took := l.infer()
						if len(a.Decoded) != l.dataLayers(dead) || len(a.Recomputed) != 0 || took != 0 {
							t.Errorf("decoded %v, recomputed %v in %v", a.Decoded, a.Recomputed, took)
						}
						for _, d := range a.Decoded {
							if d.Worker != dead || l.plan.SliceOf(d.Layer, dead) != d.Slice {
								t.Errorf("decoded %+v", d)
							}
						}
					}
				})
			})
			for layer := range model(t, name, 2, 3, 1).plan.Layers {
				t.Run(fmt.Sprintf("%s w%d in layer %d", name, dead+1, layer), func(t *testing.T) {
					var l *lab
					cfg := coordinator.Config{OnScatter: func(request uint64, at int) {
						if request == 2 && at == layer {
							l.machines[dead].crash()
						}
					}}
					inLab(t, model(t, name, 2, 3, 1), cfg, func(t *testing.T, lab *lab) {
						l = lab
						l.start()
						l.delay(10*time.Millisecond, l.all()...)
						for request := 1; request <= 4; request++ {
							a, took := l.infer()
							want := 0
							for i := range l.plan.Layers {
								if (request > 2 || request == 2 && i >= layer) && l.plan.SliceOf(i, dead) < l.plan.Data {
									want++
								}
							}
							if len(a.Decoded) != want || len(a.Recomputed) != 0 {
								t.Errorf("request %d: decoded %v, want %d; recomputed %v", request, a.Decoded, want, a.Recomputed)
							}
							if healthy := time.Duration(len(l.plan.Layers)) * 10 * time.Millisecond; took != healthy {
								t.Errorf("request %d took %v, a healthy one %v", request, took, healthy)
							}
						}
					})
				})
			}
		}
	}
}

// leastGrace is what is waited for a data slice when the k-th arrival took less
// than a hundred milliseconds.
const leastGrace = 2 * time.Millisecond

// A silent worker is dead only after 400 ms. The request under way waits for
// the grace and no longer; the next ones do not wait for it at all.
func TestSilentWorker(t *testing.T) {
	const each = 10 * time.Millisecond
	var l *lab
	cfg := coordinator.Config{OnScatter: func(request uint64, at int) {
		if request == 2 && at == 0 {
			l.machines[1].cut()
		}
	}}
	inLab(t, model(t, "conv", 1, 3, 1), cfg, func(t *testing.T, lab *lab) {
		l = lab
		l.start()
		l.delay(each, l.all()...)
		for request := 1; request <= 5; request++ {
			a, took := l.infer()
			want := 3 * each
			if request == 2 {
				want += leastGrace
			}
			if took != want {
				t.Errorf("request %d took %v, want %v", request, took, want)
			}
			if request == 1 != (len(a.Decoded) == 0) || len(a.Recomputed) != 0 {
				t.Errorf("request %d: %+v", request, a)
			}
		}
		if s := l.c.Status()[1]; s.Late == 0 || s.DecodedFor == 0 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Second)
		if s := l.c.Status()[1]; s.State != coordinator.Gone {
			t.Errorf("status after a second %+v", s)
		}
		l.machines[1].heal()
		time.Sleep(3 * time.Second)
		if a, _ := l.infer(); len(a.Decoded) != 0 {
			t.Errorf("decoded %v after it came back", a.Decoded)
		}
	})
}

// A slow worker costs one grace; once it is on time again it counts again.
func TestSlowWorker(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.infer()
		l.delay(time.Second, 0)
		for i := range 20 {
			a, took := l.infer()
			want := 2 * each
			if i == 0 {
				want += leastGrace
			}
			if took != want || len(a.Recomputed) != 0 || len(a.Decoded) != l.dataLayers(0) {
				t.Errorf("request %d took %v, want %v: %+v", a.Request, took, want, a)
			}
		}
		if s := l.c.Status()[0]; s.State != coordinator.Late {
			t.Errorf("status %+v", s)
		}
		l.delay(each/2, 0) // sooner than the others, so that it is seen
		time.Sleep(time.Second)
		l.infer()
		if a, _ := l.infer(); len(a.Decoded) != 0 || l.c.Status()[0].State != coordinator.Ready {
			t.Errorf("not taken back: %+v, %+v", a, l.c.Status()[0])
		}
	})
}

// Somebody is always last. A worker that is so by little is not late, however
// often nobody waits for it; one that takes far longer is, and is asked for
// little from then on.
func TestAlwaysLast(t *testing.T) {
	const each, times = 10 * time.Millisecond, 300
	for _, test := range []struct {
		last  time.Duration
		state coordinator.State
	}{
		{each + 4*time.Millisecond, coordinator.Ready},
		{10 * each, coordinator.Hung},
	} {
		inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(each, l.all()...)
			l.delay(test.last, 0)
			for range times {
				if a, took := l.infer(); took > 3*each || len(a.Recomputed) != 0 {
					t.Errorf("request %d took %v: %+v", a.Request, took, a)
				}
			}
			s, health := l.c.Status()[0], l.c.Health()
			if s.State != test.state || (health.Redundancy == 1) != (test.state == coordinator.Ready) {
				t.Errorf("taking %v: %+v, redundancy %d", test.last, s, health.Redundancy)
			}
			if late := test.state != coordinator.Ready; late != (s.Late < times/4) {
				t.Errorf("taking %v: asked in vain %d times in %d requests", test.last, s.Late, times)
			}
		})
	}
}

// Nor is one late that was on trial when its connection ended, once it is back.
func TestTrialEndsWithConnection(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.delay(each+4*time.Millisecond, 0)
		for range 20 {
			if l.infer(); l.c.Status()[0].State != coordinator.Ready {
				t.Fatalf("%+v", l.c.Status()[0])
			}
			l.machines[0].conn.Close()
			time.Sleep(time.Second)
			synctest.Wait()
		}
	})
}

// A negative Grace takes the first k strictly.
func TestWithoutGrace(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{Grace: -1}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.delay(each+1, 0)
		if a, took := l.infer(); took != 2*each || len(a.Decoded) != l.dataLayers(0) {
			t.Errorf("took %v: %+v", took, a)
		}
	})
}

// More workers are gone than there is parity for: without parity it is an error
// at once, with parity the coordinator computes what is missing.
func TestTooFewWorkers(t *testing.T) {
	t.Run("no parity", func(t *testing.T) {
		inLab(t, model(t, "conv", 1, 3, 0), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start(1, 2)
			in, _ := l.request(t, l.r)
			begin := time.Now()
			var a coordinator.Answer
			err := l.c.Infer(context.Background(), in, &a)
			var lost *coordinator.LostError
			if !errors.As(err, &lost) || !errors.Is(err, parity.ErrTooFewSlices) || time.Since(begin) != 0 {
				t.Fatalf("got %v after %v", err, time.Since(begin))
			}
			if lost.Layer != l.plan.Layers[0].Node || !slices.Equal(lost.Slices, []int{1, 2}) || !slices.Equal(lost.Workers, []string{"w2", "w3"}) {
				t.Errorf("%+v", lost)
			}
			l.machines[1].start()
			l.machines[2].start()
			synctest.Wait()
			l.infer()
		})
	})
	t.Run("no parity, dies in the request", func(t *testing.T) {
		var l *lab
		cfg := coordinator.Config{OnScatter: func(_ uint64, at int) {
			if at == 1 {
				l.machines[0].crash()
			}
		}}
		inLab(t, model(t, "conv", 1, 3, 0), cfg, func(t *testing.T, lab *lab) {
			l = lab
			l.start()
			l.delay(10*time.Millisecond, l.all()...)
			in, _ := l.request(t, l.r)
			begin := time.Now()
			err := l.c.Infer(context.Background(), in, &coordinator.Answer{})
			var lost *coordinator.LostError
			if !errors.As(err, &lost) || lost.Layer != l.plan.Layers[1].Node || !slices.Equal(lost.Workers, []string{"w1"}) {
				t.Fatalf("got %v", err)
			}
			if took := time.Since(begin); took != 10*time.Millisecond {
				t.Errorf("known after %v, want at once in layer 1", took)
			}
		})
	})
	for _, c := range []struct {
		name string
		off  []int
	}{
		{"parity and two are dead", []int{0, 3}}, {"parity and three are dead", []int{0, 1, 2}}, {"parity and all are dead", []int{0, 1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLab(t, model(t, "conv", 2, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start(c.off...)
				for range 3 {
					a, took := l.infer()
					if len(a.Recomputed) == 0 || took != 0 || a.Late != 0 {
						t.Errorf("took %v: %+v", took, a)
					}
					for _, r := range a.Recomputed {
						if !slices.Contains(c.off, r.Worker) || l.plan.WorkerOf(r.Layer, r.Slice) != r.Worker {
							t.Errorf("recomputed %+v", r)
						}
					}
				}
			})
		})
	}
}

// Two workers hang with their connections alive. Patience ends the wait each
// time, and does not grow with it. It is 1.5 times a layer's usual time, at
// least 50 ms, or 2 ms once they are known to be late, and 5 s in the first
// request; then, as the coordinator computes one slice in no time, comes the
// least grace for the other, 2 ms. Three layers.
func TestTwoHangingWorkers(t *testing.T) {
	t.Run("after a while", func(t *testing.T) {
		inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(10*time.Millisecond, l.all()...)
			l.infer()
			l.delay(time.Hour, 0, 1)
			most := (52 + 42 + 42) * time.Millisecond
			for range 30 {
				a, took := l.infer()
				if took > most || len(a.Recomputed) == 0 {
					t.Errorf("request %d took %v: %+v", a.Request, took, a)
				}
				most = 3 * 42 * time.Millisecond
			}
		})
	})
	t.Run("from the start", func(t *testing.T) {
		inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(time.Hour, 0, 1)
			if _, took := l.infer(); took > 3*5002*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if _, took := l.infer(); took > 3*4*time.Millisecond {
				t.Errorf("the second took %v", took)
			}
		})
	})
	t.Run("silent", func(t *testing.T) {
		inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			l.machines[0].cut()
			l.machines[1].cut()
			if _, took := l.infer(); took > 500*time.Millisecond {
				t.Errorf("took %v, the read deadline is 400 ms", took)
			}
		})
	})
}

// The flock becomes slower as a whole: after the time it takes to get used to
// that, its results are waited for again.
func TestSlowerFlock(t *testing.T) {
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(100*time.Millisecond, l.all()...)
		l.infer()
		l.delay(140*time.Millisecond, l.all()...)
		a, took := l.infer()
		if took != 420*time.Millisecond || len(a.Recomputed) != 0 {
			t.Errorf("took %v: %+v", took, a)
		}
	})
}

func TestRequestsInParallel(t *testing.T) {
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{Concurrency: 4}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(10*time.Millisecond, l.all()...)
		var clients sync.WaitGroup
		var answered atomic.Int64
		seen := sync.Map{}
		for range 16 {
			in, want := l.request(t, l.r)
			clients.Go(func() {
				var a coordinator.Answer // used again
				for range 5 {
					if err := l.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
						t.Errorf("request %d: %v", a.Request, err)
					}
					if _, twice := seen.LoadOrStore(a.Request, true); twice {
						t.Errorf("request number %d twice", a.Request)
					}
					if answered.Add(1) == 40 {
						l.machines[2].crash()
					}
				}
			})
		}
		clients.Wait()
	})
}

// Who gives up gets his error at once, and the workers are told.
func TestGivingUp(t *testing.T) {
	for _, parity := range []int{0, 1} {
		t.Run(fmt.Sprintf("r=%d", parity), func(t *testing.T) {
			inLab(t, model(t, "conv", 1, 3, parity), coordinator.Config{Concurrency: 1}, func(t *testing.T, l *lab) {
				l.start()
				l.delay(time.Second, l.all()...)
				in, _ := l.request(t, l.r)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
				defer cancel()
				begin := time.Now()
				if err := l.c.Infer(ctx, in, &coordinator.Answer{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin); took != 10*time.Millisecond {
					t.Errorf("took %v", took)
				}
				l.delay(0, l.all()...)
				// Had the workers not been told to stop, each would still sleep.
				if a, took := l.infer(); took != 0 || len(a.Decoded)+len(a.Recomputed) != 0 {
					t.Errorf("the next took %v: %+v", took, a)
				}
				for _, s := range l.c.Status() {
					if s.Late != 0 {
						t.Errorf("counted as late: %+v", s)
					}
				}
			})
		})
	}
	t.Run("while waiting for a turn", func(t *testing.T) {
		inLab(t, model(t, "dense", 1, 2, 0), coordinator.Config{Concurrency: 1}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(time.Second, l.all()...)
			var first sync.WaitGroup
			first.Go(func() { l.infer() })
			synctest.Wait()
			in, _ := l.request(t, l.r)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			if err := l.c.Infer(ctx, in, &coordinator.Answer{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			first.Wait()
		})
	})
}

func TestCloseDuringRequests(t *testing.T) {
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(time.Minute, l.all()...)
		var clients sync.WaitGroup
		for range 12 { // more than Concurrency
			in, _ := l.request(t, l.r)
			clients.Go(func() {
				if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); !errors.Is(err, coordinator.ErrClosed) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		waiting := make(chan error, 1)
		l.machines[0].crash()
		synctest.Wait()
		go func() { waiting <- l.c.WaitReady(context.Background()) }()
		synctest.Wait()
		begin := time.Now()
		l.c.Close()
		clients.Wait()
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if err := <-waiting; !errors.Is(err, coordinator.ErrClosed) {
			t.Errorf("WaitReady: %v", err)
		}
		in, _ := l.request(t, l.r)
		if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); !errors.Is(err, coordinator.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		l.c.Close()
	})
}

func TestWrongInput(t *testing.T) {
	inLab(t, model(t, "dense", 1, 2, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		for _, in := range [][]*tensor.Tensor{nil, {nil}, {tensor.New(tensor.Float32, 1, 8)}} {
			if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); err == nil {
				t.Errorf("took %v", in)
			}
		}
		l.infer()
	})
}

// Without workers everything is computed here.
func TestNoWorkers(t *testing.T) {
	p := model(t, "conv", 1, 1, 0)
	alone := *p
	alone.plan, alone.infos = new(plan.Plan), nil
	inLab(t, &alone, coordinator.Config{}, func(t *testing.T, l *lab) {
		if err := l.c.WaitReady(context.Background()); err != nil {
			t.Error(err)
		}
		l.infer()
	})
}
