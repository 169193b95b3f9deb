package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// progress shows a person what goes on, on stderr, from a second on.
type progress struct {
	stage atomic.Pointer[func() string]
	quit  chan struct{}
	once  sync.Once
	ended sync.WaitGroup
}

// startProgress shows nothing where stderr is no terminal. The caller stops it.
func startProgress() *progress {
	p := &progress{quit: make(chan struct{})}
	if terminal(os.Stderr) {
		p.ended.Go(p.show)
	}
	return p
}

// now says what goes on from here.
func (p *progress) now(stage func() string) { p.stage.Store(&stage) }

func (p *progress) show() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	const wipe = "\r\x1b[K"
	for {
		select {
		case <-tick.C:
			if stage := p.stage.Load(); stage != nil {
				fmt.Fprint(os.Stderr, wipe, (*stage)())
			}
		case <-p.quit:
			fmt.Fprint(os.Stderr, wipe)
			return
		}
	}
}

// stop clears the line; after it nothing is shown. It may be called again.
func (p *progress) stop() {
	p.once.Do(func() { close(p.quit) })
	p.ended.Wait()
}
