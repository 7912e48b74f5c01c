package ledger

import (
	"fmt"
	"testing"
)

const million = 1_000_000

// BenchmarkMillion measures what is done with a million keys that were written at once.
func BenchmarkMillion(b *testing.B) {
	ctx := b.Context()
	store := packs{}
	updates := manyKeys(million)
	tr := store.update(b, emptyTrie(), updates...)
	src := newStoreSource(store)
	bulk := store.size()

	b.Run("Build", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := emptyTrie().Update(ctx, src, updates); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok, err := tr.Get(ctx, src, updates[i*7919%million].Entry.Name); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		b.ReportMetric(float64(bulk)/million, "B/key")
	})
	b.Run("All", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for _, err := range tr.All(ctx, src) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != million {
				b.Fatal(n)
			}
		}
	})
	b.Run("Sorted", func(b *testing.B) {
		for b.Loop() {
			for _, err := range tr.Sorted(ctx, src, "") {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("UpdateOne", func(b *testing.B) {
		size, n := 0, 0
		for b.Loop() {
			n++
			next, all, err := tr.Update(ctx, src, []Update{key(fmt.Sprintf("more-%06d", n), 1)})
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range all {
				size += len(p.Data)
				store.put(p)
			}
			tr = next
		}
		b.ReportMetric(float64(size)/float64(n), "B/key")
	})
	b.Run("DiffOne", func(b *testing.B) {
		next := store.update(b, tr, key("one-more", 1))
		for b.Loop() {
			n := 0
			for _, err := range Diff(ctx, src, tr, next) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 1 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkOneByOne writes a trie key by key, each into a pack of its own.
func BenchmarkOneByOne(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		store, tr := packs{}, emptyTrie()
		src := newStoreSource(store)
		for i := range n {
			next, all, err := tr.Update(b.Context(), src, []Update{key(fmt.Sprintf("key-%06d", i), 1)})
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range all {
				store.put(p)
			}
			tr = next
		}
		b.ReportMetric(float64(store.size())/n, "B/key")
	}
}
