package flock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	folderPrefix = "starling-run-"
	lockName     = "lock"
)

// folder is the folder of one run. It is locked as long as the run lives, so
// that the next run can tell and remove what a killed one left behind.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes a folder in parent, after removing those of dead runs.
func newFolder(parent string) (f *folder, err error) {
	hint := ""
	if parent == "" {
		parent, hint = os.TempDir(), "; set TMPDIR to another folder"
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for this run: %w%s", err, hint)
	}
	f = &folder{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lock the folder of this run: %w", err), f.remove())
		}
	}()
	// It gets its name when it is locked: nobody can take the folder for dead.
	unnamed := filepath.Join(path, lockName+".new")
	if f.lock, err = os.OpenFile(unnamed, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return f, err
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return f, err
	}
	return f, os.Rename(unnamed, filepath.Join(path, lockName))
}

func (f *folder) remove() error {
	// The lock last: whoever is killed in between leaves what sweep can find.
	err := errors.Join(os.RemoveAll(filepath.Join(f.path, "shards")), os.RemoveAll(f.path))
	if f.lock != nil {
		f.lock.Close()
	}
	return err
}

// sweep removes the folders of runs that are dead. What it cannot remove stays.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		lock.Close()
	}
}
