%% A server that owns a stream: it gets the stream's events beside its calls.
-module(guest_words).

-behaviour(gen_server).

-export([start_link/0, all/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% All words, once the stream is done.
all() ->
    gen_server:call(?MODULE, all, 30000).

init([]) ->
    {ok, Ref} = py:stream_start(guest, words, [<<"one two three">>], #{pool => guest}),
    {ok, #{ref => Ref, words => [], result => none, waiting => []}}.

handle_call(all, From, #{result := none, waiting := Waiting} = State) ->
    {noreply, State#{waiting := [From | Waiting]}};
handle_call(all, _From, #{result := Result} = State) ->
    {reply, Result, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_stream, Ref, {data, Word}}, #{ref := Ref, words := Words} = State) ->
    {noreply, State#{words := [Word | Words]}};
handle_info({py_stream, Ref, done}, #{ref := Ref, words := Words} = State) ->
    {noreply, ends({ok, lists:reverse(Words)}, State)};
handle_info({py_stream, Ref, {error, Reason}}, #{ref := Ref} = State) ->
    {noreply, ends({error, Reason}, State)}.

ends(Result, #{waiting := Waiting} = State) ->
    [gen_server:reply(From, Result) || From <- Waiting],
    State#{result := Result, waiting := []}.
