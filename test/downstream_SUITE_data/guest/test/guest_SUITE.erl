-module(guest_SUITE).

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([server_owns_a_stream/1, case_owns_a_stream/1]).

all() ->
    [server_owns_a_stream, case_owns_a_stream].

init_per_suite(Config) ->
    {ok, Started} = application:ensure_all_started(guest),
    [{started, Started} | Config].

end_per_suite(Config) ->
    {started, Started} = lists:keyfind(started, 1, Config),
    [ok = application:stop(App) || App <- lists:reverse(Started)].

server_owns_a_stream(_Config) ->
    {ok, [<<"ONE">>, <<"TWO">>, <<"THREE">>]} = guest_words:all().

case_owns_a_stream(_Config) ->
    {ok, Ref} = py:stream_start(guest, words, [<<"a b">>], #{pool => guest}),
    {ok, <<"A">>} = py:stream_next(Ref),
    {ok, <<"B">>} = py:stream_next(Ref),
    done = py:stream_next(Ref).
