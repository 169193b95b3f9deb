package mark_test

import (
	"sync"
	"testing"

	"starling/internal/mark"
)

var (
	passed = mark.New("mark: passed")
	_      = mark.New("mark: never passed")
)

func TestCounts(t *testing.T) {
	before := mark.Counts()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				passed.Pass()
			}
		})
	}
	all.Wait()
	counts := mark.Counts()
	if n, there := counts["mark: never passed"]; n != 0 || !there || len(counts) != 2 {
		t.Errorf("counts %v", counts)
	}
	if n := counts["mark: passed"] - before["mark: passed"]; n != 4000 {
		t.Errorf("passed %d times, want 4000", n)
	}
}

func TestNewTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second mark of the same name is taken")
		}
	}()
	mark.New("mark: passed")
}

func BenchmarkPass(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		passed.Pass()
	}
}
