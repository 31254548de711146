"""Code search: serve a source tree over HTTP, crawl it, parse it, index it, and search it for a word.

An ordinary asyncio program. `python main.py semaphore` runs it on asyncio's own event loop.
"""

# The worker processes of `--pool futures` import this file once more. All the rest stands behind the guard,
# so that they load neither the HTTP library nor the database. Those of `motet.amap` need no guard.
if __name__ == "__main__":
    import asyncio
    import sys

    from arguments import parse_arguments
    from pipeline import build_index
    from store import Store
    from summary import print_hits, print_summary

    arguments = parse_arguments()
    try:
        with Store(arguments.database) as store:
            tally = asyncio.run(build_index(arguments, store))
            print_summary(tally, crawl_only=arguments.crawl_only)
            if not arguments.crawl_only:
                print_hits(store, arguments.word)
    except KeyboardInterrupt:
        print("code_search: interrupted", file=sys.stderr)
        sys.exit(130)
