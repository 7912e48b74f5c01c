package s3

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Checkup describes what is stored below the prefix of a store. Keys are relative to the prefix.
type Checkup struct {
	Objects int      // number of objects that List returns
	Tried   []string // leftovers of [Store.TryWrite] at least an hour old, at most 1,000
	Stray   []string // keys that are not paths of objects and are ignored, at most 1,000
}

const (
	abandoned = time.Hour

	// maxShown limits the keys in each list of a Checkup.
	maxShown = 1000
)

// Checkup lists all keys below the prefix. It changes nothing.
func (s *Store) Checkup(ctx context.Context) (Checkup, error) {
	var c Checkup
	err := s.pages(ctx, "", func(page *s3.ListObjectsV2Output) bool {
		for _, o := range page.Contents {
			switch path, _ := s.path(o.Key, page.EncodingType); {
			case blob.ValidPath(path) == nil:
				c.Objects++
			case strings.HasPrefix(path, triedPrefix):
				if o.LastModified != nil && time.Since(*o.LastModified) >= abandoned && len(c.Tried) < maxShown {
					c.Tried = append(c.Tried, path)
				}
			case len(c.Stray) < maxShown:
				c.Stray = append(c.Stray, path)
			}
		}
		return true
	})
	return c, err
}
