package s3

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// mostCached is the total size, in bytes, to which the cache is trimmed.
	mostCached = 256 << 20

	// tidyEvery is the number of bytes written between two checks of the total size.
	tidyEvery = 16 << 20

	// maxCachedFile is the maximum size of a file, in bytes. A record of changes has up to 16 MiB.
	maxCachedFile = 17 << 20
)

// A cache stores immutable data in a directory, one file per entry, each consisting of the SHA-256 of the data
// and the data itself. It only saves requests: errors are ignored, files are not synced, a file whose digest does
// not match is removed, and the directory may be deleted at any time.
type cache struct {
	dir     string
	of      string       // the URL of the store, as several stores share the directory
	written atomic.Int64 // bytes since the last tidy
	tidied  atomic.Bool
}

func (c *cache) file(name string) string {
	sum := sha256.Sum256([]byte(c.of + "\x00" + name))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:16]))
}

// get returns the data stored under name.
func (c *cache) get(name string) ([]byte, bool) {
	path := c.file(name)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() < sha256.Size || info.Size() > maxCachedFile {
		return nil, false
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) < sha256.Size {
		return nil, false
	}
	sum := sha256.Sum256(data[sha256.Size:])
	if !bytes.Equal(sum[:], data[:sha256.Size]) {
		_ = os.Remove(path)
		return nil, false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > time.Hour { // tidy removes the least recently used
		_ = os.Chtimes(path, now, now)
	}
	return data[sha256.Size:], true
}

// put stores data under name.
func (c *cache) put(name string, data []byte) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return
	}
	temporary := filepath.Join(c.dir, triedPrefix+rand.Text())
	sum := sha256.Sum256(data)
	err := os.WriteFile(temporary, append(sum[:], data...), 0o600)
	if err == nil {
		err = os.Rename(temporary, c.file(name))
	}
	if err != nil {
		_ = os.Remove(temporary)
		return
	}
	if c.written.Add(int64(len(data))) > tidyEvery || !c.tidied.Swap(true) {
		c.written.Store(0)
		c.tidy(mostCached)
	}
}

// drop removes the entry stored under name.
func (c *cache) drop(name string) { _ = os.Remove(c.file(name)) }

// tidy removes the least recently used files until at most the given number of bytes is left.
func (c *cache) tidy(most int64) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var size int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
			size += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if size <= most {
			return
		}
		if os.Remove(filepath.Join(c.dir, f.Name())) == nil {
			size -= f.Size()
		}
	}
}
