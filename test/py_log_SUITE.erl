%% @doc How what the library logs reads, in Erlang and in Elixir.
-module(py_log_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([log/2]).
-export([a_report_is_a_sentence/1, what_is_logged_says_how_it_reads/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [a_report_is_a_sentence, what_is_logged_says_how_it_reads].

-spec a_report_is_a_sentence(ct_suite:ct_config()) -> ok.
a_report_is_a_sentence(_Config) ->
    Read = fun(Report) ->
        {Format, Arguments} = py_log:report(Report),
        unicode:characters_to_list(io_lib:format(Format, Arguments))
    end,
    ?assertEqual("it is ready", Read(#{text => "it is ready"})),
    ?assertEqual(
        "it is ready (file: /tmp/é, pool: default, reason: out of {memory}, status: {signal,9})",
        Read(#{text => "it is ready", pool => default, file => <<"/tmp/é"/utf8>>, reason => "out of {memory}", status => {signal, 9}})
    ).

%% Over the logger, as its handlers get it.
-spec what_is_logged_says_how_it_reads(ct_suite:ct_config()) -> ok.
what_is_logged_says_how_it_reads(_Config) ->
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    try
        ok = py:cast(operator, index, [<<"1">>]),
        receive
            {logged, Event = #{msg := {report, #{text := "a py:cast failed"}}}} ->
                Line = unicode:characters_to_list(logger_formatter:format(Event, #{template => [msg], single_line => true})),
                ?assertEqual("a py:cast failed (function: index, module: operator, pool: default, reason: TypeError: 'str' object cannot be interpreted as an integer)", Line)
        end
    after
        ok = logger:remove_handler(?MODULE),
        ok = application:stop(erlang_python),
        ok = application:unset_env(erlang_python, pools)
    end.

-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := To}) ->
    To ! {logged, Event}.
