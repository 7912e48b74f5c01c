package s3

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Checkup is what was found below the prefix of a store. Keys are relative to it.
type Checkup struct {
	Objects int      // that List returns
	Tried   []string // what [Store.TryWrite] has left for an hour or longer
	Stray   []string // what Put has not made; it is ignored
}

const (
	abandoned = time.Hour

	// maxShown bounds how many keys of others are kept: one is shown.
	maxShown = 1000
)

// Checkup looks at all keys below the prefix, and changes nothing.
func (s *Store) Checkup(ctx context.Context) (Checkup, error) {
	var c Checkup
	err := s.pages(ctx, "", func(page *s3.ListObjectsV2Output) bool {
		for _, o := range page.Contents {
			switch path := strings.TrimPrefix(aws.ToString(o.Key), s.place.prefix()); {
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
