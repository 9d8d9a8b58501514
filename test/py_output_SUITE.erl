%% @doc What Python code prints and logs.
%%
%% A process of the test's own takes the place of the node's `user' device while a case runs.
-module(py_output_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-export([
    whole_lines/1,
    beginnings_of_lines/1,
    lines_of_threads/1,
    every_kind_of_text/1,
    what_stdout_says_of_itself/1,
    child_processes/1,
    preloaded_code_prints/1,
    what_a_worker_prints_last/1,
    a_stuck_device_stops_nothing/1,
    a_slow_device_loses_nothing/1,
    no_device/1,
    the_callers_device/1,
    a_result_comes_behind_its_output/1,
    the_pool_says_where_output_goes/1,
    a_stuck_caller_stops_nothing/1,
    a_slow_caller_loses_nothing/1,
    a_caller_that_has_ended/1,
    records/1,
    levels/1,
    tracebacks/1,
    records_that_are_strange/1,
    the_level_is_kept_at_the_source/1,
    a_level_of_their_own/1,
    a_flood_of_records_stops_nothing/1,
    failed_requests/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        whole_lines,
        beginnings_of_lines,
        lines_of_threads,
        every_kind_of_text,
        what_stdout_says_of_itself,
        child_processes,
        preloaded_code_prints,
        what_a_worker_prints_last,
        a_stuck_device_stops_nothing,
        a_slow_device_loses_nothing,
        no_device,
        the_callers_device,
        a_result_comes_behind_its_output,
        the_pool_says_where_output_goes,
        a_stuck_caller_stops_nothing,
        a_slow_caller_loses_nothing,
        a_caller_that_has_ended,
        records,
        levels,
        tracebacks,
        records_that_are_strange,
        the_level_is_kept_at_the_source,
        a_level_of_their_own,
        a_flood_of_records_stops_nothing,
        failed_requests
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    #{level := Level} = logger:get_primary_config(),
    Own = #{python_path => [?config(data_dir, Config)]},
    ok = application:set_env(erlang_python, pools, #{default => Own#{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{own, Own}, {level, Level} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    [{real, take_place(self())} | Config].

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, Config) ->
    Device = whereis(user),
    give_back(?config(real, Config)),
    exit(Device, kill),
    ok = logger:remove_handler(?MODULE),
    ok = logger:set_primary_config(level, ?config(level, Config)),
    test_leftovers:none().

%%% Output.

%% What is printed arrives by lines, each of them whole, in order, before a minute is over.
-spec whole_lines(ct_suite:ct_config()) -> ok.
whole_lines(_Config) ->
    {ok, none} = py:call(speaker, say, [<<"one">>, <<"two">>]),
    ?assertEqual(<<"one\ntwo\n">>, printed(8)),
    Many = [integer_to_binary(N) || N <- lists:seq(1, 5000)],
    {ok, none} = py:call(speaker, say, Many),
    All = iolist_to_binary([[Line, $\n] || Line <- Many]),
    ?assertEqual(All, printed(byte_size(All))).

%% The beginning of a line waits for its end, for a flush, or for a moment.
-spec beginnings_of_lines(ct_suite:ct_config()) -> ok.
beginnings_of_lines(_Config) ->
    {ok, none} = py:call(speaker, say_in_pieces, [<<"a">>, <<"b">>, <<"c\nd">>, <<"e\n">>]),
    ?assertEqual([<<"abc\n">>, <<"de\n">>], [next_text(), next_text()]),
    {ok, none} = py:call(speaker, say_and_flush, [<<"a question: ">>]),
    ?assertEqual(<<"a question: ">>, next_text()),
    {ok, none} = py:call(speaker, say_in_pieces, [<<"nobody ends this">>]),
    ?assertEqual(<<"nobody ends this">>, next_text()).

%% Lines that threads print at the same time are not mixed.
-spec lines_of_threads(ct_suite:ct_config()) -> ok.
lines_of_threads(_Config) ->
    Expected = [
        iolist_to_binary(io_lib:format("thread ~b line ~b", [T, L]))
     || T <- lists:seq(0, 4), L <- lists:seq(0, 199)
    ],
    Size = iolist_size([[Line, $\n] || Line <- Expected]),
    {ok, none} = py:call(speaker, say_in_threads, [5, 200]),
    Lines = binary:split(printed(Size), <<"\n">>, [global, trim]),
    ?assertEqual(lists:sort(Expected), lists:sort(Lines)).

%% Text of any kind, bytes, and what is no Unicode arrive as UTF-8.
-spec every_kind_of_text(ct_suite:ct_config()) -> ok.
every_kind_of_text(_Config) ->
    {ok, none} = py:call(speaker, say_everything, []),
    Expected = <<"ö\\udcff\nbytes\\xff\none\ntwo\n1|2.5|None\n"/utf8>>,
    ?assertEqual(Expected, printed(byte_size(Expected))).

%% Libraries that ask get an answer that does no harm.
-spec what_stdout_says_of_itself(ct_suite:ct_config()) -> ok.
what_stdout_says_of_itself(_Config) ->
    ?assertEqual({ok, {false, <<"utf-8">>, 1, true}}, py:call(speaker, about_stdout, [])).

%% Child processes and the descriptors go to stderr, and not to the protocol.
-spec child_processes(ct_suite:ct_config()) -> ok.
child_processes(_Config) ->
    {ok, none} = py:call(speaker, child_processes, []),
    Expected = <<"of the worker\n">>,
    ?assertEqual(Expected, printed(byte_size(Expected))),
    ?assertEqual({ok, none}, py:call(speaker, say, [])),
    nothing_logged().

%% Code that runs before the worker takes work prints and logs.
-spec preloaded_code_prints(ct_suite:ct_config()) -> ok.
preloaded_code_prints(Config) ->
    Code = "print('preloaded')\nimport logging\nlogging.error('while preloading')",
    {ok, Worker} = py:start_worker((?config(own, Config))#{preload => [Code]}),
    ?assertEqual(<<"preloaded\n">>, next_text()),
    {error, <<"while preloading">>, _} = next_record(),
    ok = py:stop_worker(Worker).

%% What a worker printed before it died is shown.
-spec what_a_worker_prints_last(ct_suite:ct_config()) -> ok.
what_a_worker_prints_last(Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(?config(own, Config), monitor),
    Code = "(print('last words'), __import__('os')._exit(3))",
    ?assertEqual({error, {worker_exit, 3}}, py:eval(Code, #{}, #{pool => Worker})),
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    end,
    ?assertEqual(<<"last words\n">>, next_text()).

%% Where the device takes nothing, code that prints goes on, streams and calls do, and what
%% was dropped is counted.
-spec a_stuck_device_stops_nothing(ct_suite:ct_config()) -> ok.
a_stuck_device_stops_nothing(_Config) ->
    true = erlang:suspend_process(whereis(user)),
    Lines = 50000,
    Flood = py:spawn_call(speaker, flood, [Lines]),
    ?assertEqual({ok, lists:seq(0, 9999)}, py:stream(speaker, count, [10000])),
    ?assertEqual({ok, none}, py:await(Flood)),
    ?assertEqual({ok, none}, py:call(speaker, flood_the_loop, [Lines])),
    true = erlang:resume_process(whereis(user)),
    {Shown, Dropped} = shown_and_dropped(fun next_text/0, 0),
    ?assertEqual(2 * Lines, Shown + Dropped),
    ?assert(Shown * 100 < 3 * 1024 * 1024).

shown_and_dropped(Next, Shown) ->
    Text = Next(),
    case re:run(Text, "\\[([0-9]+) lines of output were dropped", [{capture, [1], binary}]) of
        {match, [Number]} -> {Shown + lines(Text) - 1, binary_to_integer(Number)};
        nomatch -> shown_and_dropped(Next, Shown + lines(Text))
    end.

lines(Text) ->
    length(binary:matches(Text, <<"\n">>)).

%% A device that is only slow gets everything: threads that print wait for it.
-spec a_slow_device_loses_nothing(ct_suite:ct_config()) -> ok.
a_slow_device_loses_nothing(_Config) ->
    whereis(user) ! {pause, 1},
    Lines = 30000,
    {ok, none} = py:call(speaker, flood, [Lines]),
    ?assertEqual(Lines, lines(printed(100 * Lines))).

%% A node without a `user' device loses what it would have shown, and no more.
-spec no_device(ct_suite:ct_config()) -> ok.
no_device(_Config) ->
    Device = whereis(user),
    true = unregister(user),
    {ok, none} = py:call(speaker, say, [<<"to no device">>]),
    {ok, none} = py:call(speaker, record, [40, <<"a record behind it">>]),
    {error, <<"a record behind it">>, _} = next_record(),
    true = register(user, Device),
    {ok, none} = py:call(speaker, say, [<<"to somebody">>]),
    ?assertEqual(<<"to somebody\n">>, next_text()).

%%% The caller's device.

%% Every kind of request prints to the group leader of the process that made it, if it wants that.
-spec the_callers_device(ct_suite:ct_config()) -> ok.
the_callers_device(_Config) ->
    Own = leader(0),
    Opts = #{output => caller},
    ok = py:exec("import asyncio\nasync def say_later(text):\n    await asyncio.sleep(0.01)\n    print(text)\n"),
    as(Own, fun() ->
        {ok, none} = py:call(speaker, say, [<<"call">>], #{}, Opts),
        {ok, none} = py:call('__main__', say_later, [<<"async">>], #{}, Opts),
        {ok, none} = py:eval("print('eval')", #{}, Opts),
        {ok, [none]} = py:stream_eval("(print('stream') for _ in [1])", #{}, Opts),
        {ok, Ref} = py:stream_start(speaker, say_each, [<<"start">>], Opts),
        {ok, 1} = py:stream_next(Ref),
        done = py:stream_next(Ref),
        ok = py:exec("print('exec')", Opts#{replay => false}),
        {ok, none} = py:await(py:spawn_call(speaker, say, [<<"spawn">>], #{}, Opts)),
        %% What the thread of a request hands to another is that request's.
        {ok, none} = py:call(speaker, say_in_a_pool, [<<"to_thread">>], #{}, Opts),
        {ok, none} = py:call(speaker, say, [<<"to user">>]),
        %% Of what was printed without a line's end nothing is mixed, or held back.
        {ok, none} = py:call(speaker, say_in_pieces, [<<"a">>, <<"b">>], #{}, Opts),
        ok = py:cast(speaker, say, [<<"cast">>], #{}, Opts)
    end),
    Expected = <<"call\nasync\neval\nstream\nstart\nexec\nspawn\nto_thread\nabcast\n">>,
    ?assertEqual(Expected, printed_by(Own, byte_size(Expected))),
    ?assertEqual(<<"to user\n">>, next_text()),
    %% Each of two who call at the same time has its own.
    Leaders = [leader(0) || _ <- lists:seq(1, 10)],
    Callers = [
        spawn_monitor(fun() ->
            group_leader(Leader, self()),
            [{ok, none} = py:call(speaker, say, [list_to_binary(pid_to_list(Leader)), <<"x">>], #{}, Opts) || _ <- lists:seq(1, 20)]
        end)
     || Leader <- Leaders
    ],
    [receive {'DOWN', Monitor, process, Pid, normal} -> ok end || {Pid, Monitor} <- Callers],
    [
        begin
            One = iolist_to_binary(io_lib:format("~p~nx~n", [Leader])),
            All = iolist_to_binary(lists:duplicate(20, One)),
            ?assertEqual(All, printed_by(Leader, byte_size(All)))
        end
     || Leader <- Leaders
    ],
    ok.

%% As with `io:format': who has the result finds the output, as what captures it does.
-spec a_result_comes_behind_its_output(ct_suite:ct_config()) -> ok.
a_result_comes_behind_its_output(_Config) ->
    Own = leader(0),
    as(Own, fun() ->
        [
            begin
                Text = integer_to_binary(N),
                {ok, none} = py:call(speaker, say_in_pieces, [Text], #{}, #{output => caller}),
                Own ! {what, self()},
                receive
                    {so_far, Printed} -> ?assertEqual(Text, Printed)
                end
            end
         || N <- lists:seq(1, 300)
        ]
    end).

-spec the_pool_says_where_output_goes(ct_suite:ct_config()) -> ok.
the_pool_says_where_output_goes(Config) ->
    Own = leader(0),
    {ok, _} = py:start_pool(chatty, (?config(own, Config))#{workers => 1, output => caller}),
    as(Own, fun() ->
        {ok, none} = py:call(speaker, say, [<<"the pool's">>], #{}, #{pool => chatty}),
        {ok, none} = py:call(speaker, say, [<<"its own">>], #{}, #{pool => chatty, output => user}),
        ok = py:exec("print('exec')", #{pool => chatty})
    end),
    ?assertEqual(<<"the pool's\nexec\n">>, printed_by(Own, 16)),
    ?assertEqual(<<"its own\n">>, next_text()),
    %% Code that runs again in a worker that is restarted runs for nobody.
    {ok, OsPid} = py:call(os, getpid, [], #{}, #{pool => chatty}),
    ok = test_os_process:kill(OsPid),
    ?assertEqual(<<"exec\n">>, next_text()),
    ok = py:stop_pool(chatty).

%% What is printed to a group leader that takes nothing is dropped in the end, and nobody else waits.
-spec a_stuck_caller_stops_nothing(ct_suite:ct_config()) -> ok.
a_stuck_caller_stops_nothing(_Config) ->
    Own = leader(0),
    true = erlang:suspend_process(Own),
    Lines = 50000,
    as(Own, fun() ->
        Flood = py:spawn_call(speaker, flood, [Lines], #{}, #{output => caller}),
        %% Others print where they want to, while it is stuck.
        {ok, none} = py:call(speaker, say, [<<"to user">>]),
        {ok, none} = py:await(Flood),
        {ok, none} = py:call(speaker, flood_the_loop, [Lines], #{}, #{output => caller})
    end),
    ?assertEqual(<<"to user\n">>, next_text()),
    {message_queue_len, Waiting} = process_info(Own, message_queue_len),
    ?assert(Waiting < 1000),
    true = erlang:resume_process(Own),
    {Shown, Dropped} = shown_and_dropped(fun() -> printed_by(Own, 1) end, 0),
    ?assertEqual(2 * Lines, Shown + Dropped),
    ?assert(Shown * 100 < 3 * 1024 * 1024).

-spec a_slow_caller_loses_nothing(ct_suite:ct_config()) -> ok.
a_slow_caller_loses_nothing(_Config) ->
    Own = leader(1),
    Lines = 30000,
    as(Own, fun() -> {ok, none} = py:call(speaker, flood, [Lines], #{}, #{output => caller}) end),
    ?assertEqual(Lines, lines(printed_by(Own, 100 * Lines))).

%% It may end before the request, or while it is printed to: more than may be under way is lost.
-spec a_caller_that_has_ended(ct_suite:ct_config()) -> ok.
a_caller_that_has_ended(_Config) ->
    Own = leader(0),
    true = erlang:suspend_process(Own),
    as(Own, fun() ->
        Flood = py:spawn_call(speaker, flood, [30000], #{}, #{output => caller}),
        test_eventually:true(fun() -> element(2, process_info(Own, message_queue_len)) > 0 end),
        exit(Own, kill),
        {ok, none} = py:await(Flood),
        [{ok, none} = py:call(speaker, flood, [10000], #{}, #{output => caller}) || _ <- [1, 2, 3]]
    end),
    {ok, none} = py:call(speaker, say, [<<"to user">>]),
    ?assertEqual(<<"to user\n">>, next_text()).

leader(Pause) ->
    Self = self(),
    spawn(fun() -> leader(Self, Pause, <<>>) end).

leader(Test, Pause, Text) ->
    receive
        {io_request, From, As, {put_chars, unicode, More}} ->
            receive
            after Pause -> ok
            end,
            Test ! {printed, self(), More},
            From ! {io_reply, As, ok},
            leader(Test, Pause, <<Text/binary, More/binary>>);
        {what, Who} ->
            Who ! {so_far, Text},
            leader(Test, Pause, <<>>)
    end.

%% Does something in a process with this group leader.
as(Leader, Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        group_leader(Leader, self()),
        Fun()
    end),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

printed_by(Leader, Size) ->
    printed_by(Leader, Size, <<>>).

printed_by(_Leader, Size, Text) when byte_size(Text) >= Size -> Text;
printed_by(Leader, Size, Text) ->
    receive
        {printed, Leader, More} -> printed_by(Leader, Size, <<Text/binary, More/binary>>)
    after 10000 -> error({printed_no_more, Text})
    end.

%%% Log records.

%% A record becomes an event with domain, level, module, function, line, file and time.
-spec records(ct_suite:ct_config()) -> ok.
records(_Config) ->
    {ok, none} = py:call(speaker, record, [40, <<"%s and %d">>, <<"text">>, 7]),
    {error, <<"text and 7">>, Meta} = next_record(),
    #{
        domain := [erlang_python, python],
        python_logger := <<"speaker.sub">>,
        module := <<"speaker">>,
        function := <<"record">>,
        line := Line,
        file := File,
        time := Time
    } = Meta,
    ?assert(is_integer(Line) andalso Line > 1),
    ?assertEqual("speaker.py", filename:basename(File)),
    ?assert(abs(erlang:system_time(microsecond) - Time) < 60000000).

%% Python's levels have the names of Erlang's.
-spec levels(ct_suite:ct_config()) -> ok.
levels(_Config) ->
    ok = set_level(all, 1),
    [
        begin
            {ok, none} = py:call(speaker, record, [Number, <<"x">>]),
            ?assertMatch({Level, <<"x">>, _}, next_record())
        end
     || {Number, Level} <- [
            {60, critical},
            {50, critical},
            {40, error},
            {30, warning},
            {25, notice},
            {20, info},
            {10, debug},
            {5, debug}
        ]
    ],
    ok.

%% An exception's traceback is part of the text, and metadata.
-spec tracebacks(ct_suite:ct_config()) -> ok.
tracebacks(_Config) ->
    {ok, none} = py:call(speaker, record_failure, []),
    {error, <<"it failed\nTraceback ", _/binary>>, #{traceback := Traceback}} = next_record(),
    ?assertMatch({match, _}, re:run(Traceback, "in record_failure.*KeyError: 'missing'", [dotall])).

%% A record that cannot be formatted is lost alone; text that is no Unicode is escaped.
-spec records_that_are_strange(ct_suite:ct_config()) -> ok.
records_that_are_strange(_Config) ->
    {ok, none} = py:call(speaker, strange_records, []),
    ?assertMatch({error, <<"ö\\udcff"/utf8>>, _}, next_record()),
    ?assertMatch({error, <<"after">>, _}, next_record()).

%% Python does not even make records that the node's level would drop, and learns of a new one.
-spec the_level_is_kept_at_the_source(ct_suite:ct_config()) -> ok.
the_level_is_kept_at_the_source(_Config) ->
    [
        begin
            ok = set_level(Level, Number),
            ?assertEqual({ok, false}, py:call(speaker, enabled, [Number - 1])),
            ?assertEqual({ok, Number < 51}, py:call(speaker, enabled, [min(Number, 50)]))
        end
     || {Level, Number} <- [
            {debug, 10},
            {info, 20},
            {notice, 25},
            {warning, 30},
            {error, 40},
            {critical, 50},
            {alert, 51},
            {none, 255}
        ]
    ],
    ok.

%% A level that Python code has set for the root logger is left alone.
-spec a_level_of_their_own(ct_suite:ct_config()) -> ok.
a_level_of_their_own(Config) ->
    {ok, Worker} = py:start_worker(?config(own, Config)),
    Opts = #{pool => Worker},
    {ok, 45} = py:call(speaker, root_level, [45], #{}, Opts),
    ok = logger:set_primary_config(level, info),
    test_eventually:equal({ok, 20}, fun() ->
        py:eval("__import__('logging').getLogger().handlers[0].level", #{}, Opts)
    end),
    ?assertEqual({ok, 45}, py:call(speaker, root_level, [], #{}, Opts)),
    ok = py:stop_worker(Worker).

%% Where the log takes nothing, code that logs goes on, and what was dropped is counted.
-spec a_flood_of_records_stops_nothing(ct_suite:ct_config()) -> ok.
a_flood_of_records_stops_nothing(_Config) ->
    Count = 20000,
    Self = self(),
    Holder = spawn_link(fun() ->
        receive
            {hold, From} ->
                From ! held,
                receive
                    let_go -> forward(Self)
                end
        end
    end),
    ok = logger:update_handler_config(?MODULE, config, {wait_for, Holder}),
    {ok, none} = py:call(speaker, records, [Count]),
    ?assertEqual({ok, <<"through">>}, py:call(speaker, note, [records])),
    ok = logger:update_handler_config(?MODULE, config, Self),
    Holder ! {hold, Self},
    receive
        held -> ok
    end,
    Holder ! let_go,
    {Logged, Dropped} = logged_and_dropped(0),
    ?assertEqual(Count, Logged + Dropped).

logged_and_dropped(Logged) ->
    case next_record() of
        {error, <<"record ", _/binary>>, _} ->
            logged_and_dropped(Logged + 1);
        {warning, Text, _} ->
            {match, [Number]} = re:run(Text, "^[0-9]+", [{capture, first, binary}]),
            {Logged, binary_to_integer(Number)}
    end.

forward(To) ->
    receive
        Message -> To ! Message
    end,
    forward(To).

%% At level debug the tracebacks of failed requests are logged; above it they are not.
-spec failed_requests(ct_suite:ct_config()) -> ok.
failed_requests(_Config) ->
    ok = set_level(debug, 10),
    {error, {'ValueError', _}} = py:call(speaker, fail, []),
    {debug, Text, #{traceback := _}} = next_record(),
    ?assertMatch({match, _}, re:run(Text, "in fail.*ValueError: wrong", [dotall])),
    {error, {'ValueError', _}} = py:stream(speaker, failing_stream, []),
    {debug, _, #{traceback := Traceback}} = next_record(),
    ?assertMatch({match, _}, re:run(Traceback, "in failing_stream", [dotall])),
    ok = set_level(info, 20),
    {error, {'ValueError', _}} = py:call(speaker, fail, []),
    nothing_logged().

%%% The log.

%% @doc A handler that hands what Python logs to a test, or waits for it.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event = #{meta := #{domain := [erlang_python, python]}}, #{config := Config}) ->
    #{level := Level, msg := {string, Text}, meta := Meta} = Event,
    case Config of
        To when is_pid(To) ->
            To ! {log, Level, unicode:characters_to_binary(Text), Meta};
        {wait_for, Holder} ->
            Monitor = monitor(process, Holder),
            Holder ! {log, Level, unicode:characters_to_binary(Text), Meta},
            %% Until it takes its mail.
            wait_for(Holder, Monitor)
    end;
log(_Event, _Config) ->
    ok.

wait_for(Holder, Monitor) ->
    case process_info(Holder, message_queue_len) of
        {message_queue_len, 0} ->
            demonitor(Monitor, [flush]);
        _ ->
            receive
                {'DOWN', Monitor, process, Holder, _} -> ok
            after 1 -> wait_for(Holder, Monitor)
            end
    end.

next_record() ->
    receive
        {log, Level, Text, Meta} -> {Level, Text, Meta}
    after 10000 -> error(nothing_logged)
    end.

nothing_logged() ->
    %% Records and output take the same way: what was logged before has come by now.
    {ok, none} = py:call(speaker, say, [<<"a mark">>]),
    <<"a mark\n">> = next_text(),
    receive
        {log, _, _, _} = Record -> error(Record)
    after 0 -> ok
    end.

set_level(Level, Number) ->
    ok = logger:set_primary_config(level, Level),
    test_eventually:equal({ok, Number}, fun() -> py:call(speaker, root_level, []) end).

%%% The device.

%% The processes of the node print to whoever has this name.
take_place(Test) ->
    Real = whereis(user),
    Device = spawn(fun() -> device(Test, 0) end),
    true = unregister(user),
    true = register(user, Device),
    Real.

give_back(Real) ->
    true = unregister(user),
    true = register(user, Real),
    ok.

device(Test, Pause) ->
    receive
        {io_request, From, As, {put_chars, unicode, Text}} ->
            receive
            after Pause -> ok
            end,
            Test ! {printed, unicode:characters_to_binary(Text)},
            From ! {io_reply, As, ok},
            device(Test, Pause);
        {io_request, From, As, _} ->
            From ! {io_reply, As, {error, request}},
            device(Test, Pause);
        {pause, Ms} ->
            device(Test, Ms)
    end.

next_text() ->
    receive
        {printed, Text} -> Text
    after 10000 -> error(nothing_printed)
    end.

%% That many bytes, in any number of pieces.
printed(Size) ->
    printed(Size, <<>>).

printed(Size, Text) when byte_size(Text) >= Size -> Text;
printed(Size, Text) -> printed(Size, <<Text/binary, (next_text())/binary>>).
