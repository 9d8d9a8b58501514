{ok, Ref} = py:stream_start(builtins, iter, [[1,2,3,4,5]]).
Loop = fun L() -> receive {py_stream, Ref, {data, V}} -> io:format("Got: ~p~n", [V]), L(); {py_stream, Ref, done} -> io:format("Complete~n") after 30000 -> timeout end end.
Loop().
{ok, Squares} = py:stream_eval(<<"(x**2 for x in range(10))">>).
ok = py:exec(<<"
async def async_gen():
    for i in range(5):
        await asyncio.sleep(0.1)
        yield i
">>),
{ok, Again} = py:stream_start('__main__', async_gen, []).
[Again] = lists:usort([receive {py_stream, Again, {data, N}} -> Again end || N <- lists:seq(0, 4)]).
receive {py_stream, Again, done} -> io:format("Async complete~n") end.
py:stream_eval(<<"1 / 0">>).
q().
