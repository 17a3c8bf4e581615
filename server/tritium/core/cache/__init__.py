"""The response cache: equal inputs of a model are answered with the response that was computed the first time.

    submit -> CachedModel -> key of the inputs -> store.lookup -> hit: answered from the store
                                                               -> miss: run, and the response is stored on its way out

key      what makes two requests equal
entry    a response as it is kept
store    what a store promises, and the one in this process
cached_model  the cache as one model uses it, with what is counted
"""
