package storetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
)

func TestShuffle(t *testing.T) {
	t.Parallel()
	Test(t, func(*testing.T) blob.Store { return Shuffle(new(mem.Store), 1) })
}

func TestFaultWithoutFaults(t *testing.T) {
	t.Parallel()
	Test(t, func(*testing.T) blob.Store {
		return Fault(new(mem.Store), func(string, string) error { return nil })
	})
}

// flawed is a store with flaws: the functions that are not nil take the place of its own.
type flawed struct {
	mem.Store
	put      func(ctx context.Context, path string, data []byte) error
	get      func(ctx context.Context, path string) ([]byte, error)
	getRange func(ctx context.Context, path string, offset int64, length int) ([]byte, error)
	list     func(ctx context.Context, prefix string) iter.Seq2[string, error]
	delete   func(ctx context.Context, path string) error
	sync     func(ctx context.Context, path string) error
}

func (f *flawed) Put(ctx context.Context, path string, data []byte) error {
	if f.put != nil {
		return f.put(ctx, path, data)
	}
	return f.Store.Put(ctx, path, data)
}

func (f *flawed) Get(ctx context.Context, path string) ([]byte, error) {
	if f.get != nil {
		return f.get(ctx, path)
	}
	return f.Store.Get(ctx, path)
}

func (f *flawed) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	if f.getRange != nil {
		return f.getRange(ctx, path, offset, length)
	}
	return f.Store.GetRange(ctx, path, offset, length)
}

func (f *flawed) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if f.list != nil {
		return f.list(ctx, prefix)
	}
	return f.Store.List(ctx, prefix)
}

func (f *flawed) Delete(ctx context.Context, path string) error {
	if f.delete != nil {
		return f.delete(ctx, path)
	}
	return f.Store.Delete(ctx, path)
}

func (f *flawed) Sync(ctx context.Context, path string) error {
	if f.sync != nil {
		return f.sync(ctx, path)
	}
	_, err := f.Store.Get(ctx, path)
	return err
}

// replace stores an object also where one is.
func (f *flawed) replace(ctx context.Context, path string, data []byte) error {
	if err := f.Store.Put(ctx, path, data); !errors.Is(err, blob.ErrExists) {
		return err
	}
	return errors.Join(f.Store.Delete(ctx, path), f.Store.Put(ctx, path, data))
}

// eachListed returns a list of which each path goes through change.
func (f *flawed) eachListed(change func(n int, path string) []string) {
	f.list = func(ctx context.Context, prefix string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			n := 0
			for path, err := range f.Store.List(ctx, prefix) {
				if n++; err != nil {
					yield(path, err)
					return
				}
				for _, path := range change(n, path) {
					if !yield(path, nil) {
						return
					}
				}
			}
		}
	}
}

// Each flaw of a store is found by the checks that are named. All of these pass for a store
// without flaws.
func TestFlawsAreFound(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, flaw := range []struct {
		name  string
		make  func(f *flawed)
		found string // the checks, with commas
	}{
		{"put replaces", func(f *flawed) { f.put = f.replace }, "what is there is not replaced,of eight writers one wins"},
		{"put that changes nothing says nothing", func(f *flawed) {
			f.put = func(ctx context.Context, path string, data []byte) error {
				if err := f.Store.Put(ctx, path, data); !errors.Is(err, blob.ErrExists) {
					return err
				}
				return nil
			}
		}, "what is there is not replaced,of eight writers one wins"},
		{"put looks, and then writes", func(f *flawed) {
			var mu sync.Mutex
			var looked int
			all := make(chan struct{})
			f.put = func(ctx context.Context, path string, data []byte) error {
				_, err := f.Store.Get(ctx, path)
				mu.Lock()
				if looked++; looked == writers {
					close(all)
				}
				mu.Unlock()
				<-all
				if err == nil {
					return blob.ErrExists
				}
				return f.replace(ctx, path, data)
			}
		}, "of eight writers one wins"},
		{"put has no limit of size", func(f *flawed) {
			f.put = func(ctx context.Context, path string, data []byte) error {
				return f.Store.Put(ctx, path, data[:min(len(data), blob.MaxSizeOf(path))])
			}
		}, "sizes"},
		{"put has one limit for all", func(f *flawed) {
			f.put = func(ctx context.Context, path string, data []byte) error {
				if len(data) > blob.MaxSize {
					return blob.ErrTooLarge
				}
				return f.Store.Put(ctx, path, data)
			}
		}, "sizes,ranges"},
		{"put drops the last byte", func(f *flawed) {
			f.put = func(ctx context.Context, path string, data []byte) error {
				return f.Store.Put(ctx, path, data[:max(len(data)-1, 0)])
			}
		}, "what is put is there,sizes,ranges,of eight writers one wins"},
		{"put shares memory", func(f *flawed) {
			kept := map[string][]byte{}
			f.put = func(ctx context.Context, path string, data []byte) error {
				kept[path] = data
				return nil
			}
			f.get = func(ctx context.Context, path string) ([]byte, error) { return slices.Clone(kept[path]), nil }
		}, "data is copied"},
		{"get shares memory", func(f *flawed) {
			kept := map[string][]byte{}
			f.get = func(ctx context.Context, path string) ([]byte, error) {
				if data, ok := kept[path]; ok {
					return data, nil
				}
				data, err := f.Store.Get(ctx, path)
				kept[path] = data
				return data, err
			}
		}, "data is copied"},
		{"put shows half", func(f *flawed) {
			seen := make(chan struct{}, 1000)
			f.put = func(ctx context.Context, path string, data []byte) error {
				if err := f.Store.Put(ctx, path, data[:len(data)/2]); err != nil {
					return err
				}
				<-seen
				return f.replace(ctx, path, data)
			}
			f.get = func(ctx context.Context, path string) ([]byte, error) {
				data, err := f.Store.Get(ctx, path)
				if err == nil {
					seen <- struct{}{}
				}
				return data, err
			}
			f.getRange = func(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
				data, err := f.Store.GetRange(ctx, path, offset, length)
				if err == nil || errors.Is(err, blob.ErrShort) { // a reader may fail before any Get
					seen <- struct{}{}
				}
				return data, err
			}
		}, "nobody sees half an object"},
		{"what is missing is empty", func(f *flawed) {
			f.get = func(ctx context.Context, path string) ([]byte, error) {
				data, err := f.Store.Get(ctx, path)
				if errors.Is(err, blob.ErrNotFound) {
					return nil, nil
				}
				return data, err
			}
		}, "what is put is there,sizes,delete"},
		{"what is missing is an attack", func(f *flawed) {
			f.get = func(ctx context.Context, path string) ([]byte, error) {
				data, err := f.Store.Get(ctx, path)
				if errors.Is(err, blob.ErrNotFound) {
					err = errors.Join(err, blob.ErrMalformed)
				}
				return data, err
			}
		}, "what is put is there,sizes,delete"},
		{"ranges are cut short", func(f *flawed) {
			f.getRange = func(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
				data, err := f.Store.GetRange(ctx, path, offset, length)
				if !errors.Is(err, blob.ErrShort) {
					return data, err
				}
				data, err = f.Store.Get(ctx, path)
				return data[min(max(offset, 0), int64(len(data))):], err
			}
		}, "ranges"},
		{"ranges begin one byte late", func(f *flawed) {
			f.getRange = func(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
				return f.Store.GetRange(ctx, path, offset+1, length)
			}
		}, "ranges,data is copied,nobody sees half an object"},
		{"ranges of nothing", func(f *flawed) {
			f.getRange = func(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
				if length == 0 {
					return nil, nil
				}
				return f.Store.GetRange(ctx, path, offset, length)
			}
		}, "ranges"},
		{"any path will do", func(f *flawed) {
			f.get = func(ctx context.Context, path string) ([]byte, error) {
				if blob.ValidPath(path) != nil {
					return nil, blob.ErrNotFound
				}
				return f.Store.Get(ctx, path)
			}
			f.delete = func(ctx context.Context, path string) error {
				if blob.ValidPath(path) != nil {
					return nil
				}
				return f.Store.Delete(ctx, path)
			}
		}, "paths"},
		{"list twice", func(f *flawed) {
			f.eachListed(func(n int, path string) []string { return []string{path, path} })
		}, "lists,a long list,a list while others write,a list that changes what it lists,delete"},
		{"list leaves one out", func(f *flawed) {
			f.eachListed(func(n int, path string) []string { return []string{path}[min(n, 2)/2:] })
		}, "lists,a long list,a list while others write,a list that changes what it lists,delete"},
		{"list has one page", func(f *flawed) {
			f.eachListed(func(n int, path string) []string {
				if n > 1000 {
					return nil
				}
				return []string{path}
			})
		}, "a long list"},
		{"list of a page does not go on where the last ended", func(f *flawed) {
			f.eachListed(func(n int, path string) []string {
				if n == 1001 {
					return nil
				}
				return []string{path}
			})
		}, "a long list"},
		{"list has directories", func(f *flawed) {
			f.eachListed(func(n int, path string) []string { return []string{path[:strings.LastIndexByte(path, '/')+1], path} })
		}, "lists,a long list,a list while others write,delete"},
		{"list goes by whole directories", func(f *flawed) {
			f.list = func(ctx context.Context, prefix string) iter.Seq2[string, error] {
				return f.Store.List(ctx, prefix[:strings.LastIndexByte(prefix, '/')+1])
			}
		}, "lists"},
		{"list cleans its prefix", func(f *flawed) {
			f.list = func(ctx context.Context, prefix string) iter.Seq2[string, error] {
				return f.Store.List(ctx, strings.TrimLeft(prefix, "./"))
			}
		}, "lists"},
		{"list shows what is not stored yet", func(f *flawed) {
			f.eachListed(func(n int, path string) []string {
				if n == 1 {
					return []string{path, blob.SlotPath(1234)}
				}
				return []string{path}
			})
		}, "lists,a list while others write,delete"},
		{"list ends when its context does, and does not say so", func(f *flawed) {
			f.list = func(ctx context.Context, prefix string) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					for path, err := range f.Store.List(ctx, prefix) {
						if ctx.Err() != nil || !yield(path, err) {
							return
						}
					}
				}
			}
		}, "a context that is done"},
		{"contexts are ignored", func(f *flawed) {
			f.put = func(_ context.Context, path string, data []byte) error { return f.Store.Put(t.Context(), path, data) }
		}, "a context that is done"},
		{"delete does nothing", func(f *flawed) {
			f.delete = func(context.Context, string) error { return nil }
		}, "delete,paths,of eight that put and delete,a list that changes what it lists"},
		{"delete fails the second time", func(f *flawed) {
			f.delete = func(ctx context.Context, path string) error {
				if _, err := f.Store.Get(ctx, path); err != nil {
					return err
				}
				return f.Store.Delete(ctx, path)
			}
		}, "delete"},
		{"what was deleted cannot be put", func(f *flawed) {
			var deleted sync.Map
			f.delete = func(ctx context.Context, path string) error {
				deleted.Store(path, nil)
				return f.Store.Delete(ctx, path)
			}
			f.put = func(ctx context.Context, path string, data []byte) error {
				if _, ok := deleted.Load(path); ok {
					return blob.ErrExists
				}
				return f.Store.Put(ctx, path, data)
			}
		}, "delete,of eight that put and delete"},
		{"delete takes others along", func(f *flawed) {
			f.delete = func(ctx context.Context, path string) error {
				return errors.Join(f.Store.Delete(ctx, path), f.Store.Delete(ctx, blob.SlotPath(1)))
			}
		}, "delete"},
		{"sync does nothing", func(f *flawed) {
			f.sync = func(context.Context, string) error { return nil }
		}, "sync"},
		{"sync fails", func(f *flawed) {
			f.sync = func(context.Context, string) error { return blob.ErrNotFound }
		}, "sync"},
	} {
		t.Run(flaw.name, func(t *testing.T) {
			t.Parallel()
			for name := range strings.SplitSeq(flaw.found, ",") {
				i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
				if i < 0 {
					t.Fatalf("there is no check %q", name)
				}
				if err := checks[i].run(ctx, new(flawed)); err != nil {
					t.Errorf("%s: a store without flaws fails: %v", name, err)
				}
				f := new(flawed)
				flaw.make(f)
				if checks[i].run(ctx, f) == nil {
					t.Errorf("%q does not find it", name)
				}
			}
		})
	}
}
