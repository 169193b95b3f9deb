package coordinator_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/link"
)

// A worker in a storm of restarts, and strangers at the door, are not logged for
// ever; what was left out is counted, and lines come again later.
func TestLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	cfg := coordinator.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}
	inLab(t, model(t, "dense", 1, 3, 1), cfg, func(t *testing.T, l *lab) {
		l.start()
		for range 100 {
			l.machines[1].halt()
			l.machines[1].start()
			here, there := link.Pipe(link.Config{})
			if err := l.c.Attach(there); err != nil {
				t.Fatal(err)
			}
			here.Close()
			synctest.Wait()
		}
		text := log.String()
		for _, c := range []struct {
			part string
			want int
		}{
			{"worker=w2", 10},
			{"worker not admitted", 10},
			{"worker=w3", 1},
		} {
			if n := strings.Count(text, c.part); n != c.want {
				t.Errorf("%d lines with %q, want %d", n, c.part, c.want)
			}
		}
		time.Sleep(time.Minute)
		log.Reset()
		l.machines[1].halt()
		synctest.Wait()
		// Of the 201 before, ten were said.
		if text := log.String(); !strings.Contains(text, "worker left") || !strings.Contains(text, "worker=w2") || !strings.Contains(text, "unsaid=191") {
			t.Errorf("said %q", text)
		}
	})
}
